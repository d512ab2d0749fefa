"""`graft dataset`: look at a classifier's pictures, compare versions, export one, take a picture down."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import open_workspace
from pipeline.cli.help import Command, Group
from pipeline.cli.output import (
    JsonOption,
    NameArgument,
    UsageError,
    print_json,
    print_note,
    print_text,
)
from pipeline.cli.tables import WideOption, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.artifacts.dataset import DatasetInfo
    from pipeline.artifacts.workspace import Workspace
    from pipeline.preprocess.uploads import UploadResult
    from pipeline.types import JsonDict

SHOWN = 20

dataset = typer.Typer(
    name="dataset",
    cls=Group,
    help="Look at a classifier's pictures, compare versions, export one, take a picture down.",
    no_args_is_help=True,
)
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="The latest one by default.")
]
SizeOption = Annotated[
    str | None,
    typer.Option(metavar="HEIGHTxWIDTH", help="Pixels; what the classifier's backbone takes by default."),
]


@dataset.command(cls=Command)
def show(
    name: NameArgument, version: VersionOption = None, wide: WideOption = False, as_json: JsonOption = False
) -> None:
    """Show the pictures of a dataset version by class, and why others were left out."""
    workspace = open_workspace()
    info = require_dataset(workspace, name, version)
    value: JsonDict = {
        "version": info.version,
        "pictures": sum(info.pictures.values()),
        "classes": info.pictures,
        "rejected": info.rejected,
        "licenses": info.licenses,
        "requests": info.requests,
    }
    print_json(value) if as_json else _print_info(info, workspace, wide=wide)


def _print_info(info: DatasetInfo, workspace: Workspace, *, wide: bool) -> None:
    print_text(f"{info.dataset} {info.version}: {sum(info.pictures.values())} of {info.found} pictures found")
    rows = [(label, info.pictures[label], info.train[label], info.test[label]) for label in info.classes]
    print_table(("class", "pictures", "training", "test"), rows, wide=wide)
    for title, counts in (("left out", info.rejected), ("licence", info.licenses), ("source", info.mix)):
        if counts:
            print_table((title, "pictures"), counts.items(), wide=wide)
    for reason in info.expect.reasons:
        print_text(f"  data gate: {reason}")
    for warning in info.warnings:
        print_text(f"  warning: {warning}")
    card = workspace.dataset(info.dataset).version(info.version).page
    if workspace.storage.exists(card):
        print_text(f"  card: {workspace.storage.local_path(card)}")


@dataset.command(cls=Command)
def add(
    name: NameArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The class of the pictures.")],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Picture files, or folders of them.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Upload pictures of one class; a source of type `uploads` gives them to the classifier's next run."""
    from pipeline.config import Settings, find_classifier
    from pipeline.preprocess.uploads import UploadKeeper, UploadResult, read_picture

    sources = find_classifier(name, Settings()).dataset.all_sources
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UsageError(f"there is no {', '.join(missing)}.")
    keeper, total = UploadKeeper(open_workspace(), name, by=getpass.getuser()), UploadResult()
    for path in _list_files(paths):
        total.add(keeper.keep(label, [read_picture(path)]))
    print_json(asdict(total)) if as_json else _print_upload(total)
    if all(source.type != "uploads" for source in sources):
        print_note(f"{name} does not use them yet: add `- type: uploads` to its `dataset.sources`.")


def _list_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        inside = (
            each for each in sorted(path.rglob("*")) if each.is_file() and not each.name.startswith(".")
        )
        yield from inside if path.is_dir() else [path]


def _print_upload(result: UploadResult) -> None:
    print_text(f"{result.added} added, {result.known} already there, {len(result.refused)} refused")
    for each in result.refused[:SHOWN]:
        print_text(f"  {each.name}: {each.reason} ({each.text})")
    if len(result.refused) > SHOWN:
        print_text(f"  and {len(result.refused) - SHOWN} more")


@dataset.command(cls=Command)
def diff(
    name: NameArgument,
    old: Annotated[
        str | None, typer.Argument(metavar="OLD", help="The version before the new one by default.")
    ] = None,
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="The latest version by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions: pictures added, removed, moved over the split, relabelled."""
    from pipeline.artifacts.manifest import Manifest
    from pipeline.preprocess.diff import diff_versions

    workspace = open_workspace()
    newer = require_dataset(workspace, name, new)
    before = old or newer.previous
    if before is None:
        raise UsageError(f"{newer.version} is the first version of {name}; there is nothing to compare with.")
    older = require_dataset(workspace, name, before)
    folders = (workspace.dataset(name).version(each.version) for each in (older, newer))
    changes = diff_versions(*(Manifest(folder).rows() for folder in folders)).to_dict()
    if as_json:
        print_json({"old": older.version, "new": newer.version, **changes})
        return
    print_text(f"{name}: {older.version} to {newer.version}")
    for kind, entries in changes.items():
        print_text(f"  {kind}: {len(entries)}")
        for entry in entries[:SHOWN]:
            change = f", {entry['from']} to {entry['to']}" if "from" in entry else ""
            why = f", {entry['reason']}" if entry.get("reason") else ""
            print_text(f"    {str(entry['id'])[:16]} {entry['label']}{change}{why}  {entry['source_url']}")
        if len(entries) > SHOWN:
            print_text(f"    and {len(entries) - SHOWN} more; --json lists them all")


@dataset.command(cls=Command)
def export(
    name: NameArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A directory, or gs://bucket/prefix.")],
    version: VersionOption = None,
    size: SizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a version as train-00000-of-0000N.npz and test-... with its labels and attribution."""
    from pipeline.preprocess.export import export_version

    workspace = open_workspace()
    info = require_dataset(workspace, name, version)
    height, width = _read_size(size) if size else _backbone_size(workspace, name)
    place = target if "://" in target else str(Path(target).expanduser().absolute())
    done = export_version(workspace, name, info.version, target=place, height=height, width=width)
    if as_json:
        print_json(asdict(done))
        return
    print_text(f"{done.train} training and {done.test} test pictures of {info.version} in {place}:")
    for file in done.files:
        print_text(f"  {file}")


def _read_size(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 0 < int(part) <= 10_000 for part in parts):
        raise UsageError(f"--size is HEIGHTxWIDTH, or one side of a square, in pixels. Received: {text!r}")
    return int(parts[0]), int(parts[-1])


def _backbone_size(workspace: Workspace, name: str) -> tuple[int, int]:
    from pipeline.config import Settings, find_classifier
    from pipeline.errors import ConfigError
    from pipeline.submission.backbone import resolve_backbone

    try:
        spec = resolve_backbone(workspace, find_classifier(name, Settings()).model).spec
    except ConfigError as error:
        raise UsageError(f"{error} Without its YAML, add --size HEIGHTxWIDTH.") from error
    return spec.height, spec.width


@dataset.command(cls=Command)
def forget(
    name: NameArgument,
    picture: Annotated[
        str, typer.Argument(metavar="PICTURE|URL", help="Its id, digest (8 characters or more) or address.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take a picture down: the next version is without it. Lists the model versions it went into."""
    from pipeline.deploy.affected import find_affected_versions
    from pipeline.deploy.lock import acquire_lock
    from pipeline.errors import ConfigError
    from pipeline.preprocess.takedown import forget_picture

    workspace = open_workspace()
    try:
        with acquire_lock(workspace, name, subject="takedowns"):
            forgotten = forget_picture(workspace, name, picture)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    affected = find_affected_versions(workspace, name, forgotten.versions)
    if as_json:
        print_json({**asdict(forgotten), "models": [model.to_dict() for model in affected]})
        return
    print_text(f"Taken down: {', '.join(forgotten.ids or forgotten.urls)}. The next run leaves it out.")
    for version, side in forgotten.versions.items():
        print_text(f"  dataset version {version} holds it ({side}) and stays as it is")
    for model in affected:
        print_text(f"  model version {model.version} was made with it ({model.used_for})")
    for other in forgotten.alike:
        print_note(f"  a near duplicate stays: {other}")


def require_dataset(workspace: Workspace, name: str, version: str | None) -> DatasetInfo:
    """Return a dataset version of a classifier, the latest one unless another is named.

    Raises:
        ObjectNotFound: if there is none.
    """
    from pipeline.artifacts.dataset import list_versions, read_info, read_latest
    from pipeline.errors import ObjectNotFound

    folder = workspace.dataset(name)
    chosen = version or read_latest(folder).version
    versions = list_versions(folder)
    if chosen is None or chosen not in versions:
        listed = f"its versions are {', '.join(versions)}" if versions else "it has none"
        missing = f"no version {chosen}" if chosen else "no version that the data gate let through"
        raise ObjectNotFound(f"{name} has {missing}; {listed}. Make one with `graft run {name}`.")
    return read_info(folder.version(chosen))
