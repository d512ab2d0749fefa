"""`graft predict`: what a served version, or each classifier's, says of pictures."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pipeline.bulk.answers import (
    FIRST_INSTANCE,
    PicturePrediction,
    find_version,
    predict_pictures,
    read_answer,
)
from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import (
    ExitCode,
    JsonOption,
    UsageError,
    complete_name,
    print_json,
    print_note,
    print_text,
)
from pipeline.cli.tables import PathText, WideOption, print_table
from pipeline.errors import PlatformError
from pipeline.types import JsonValue

if TYPE_CHECKING:
    from pipeline.bulk.results import ResultsFile
    from pipeline.bulk.run import BulkCounts
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.pixels.spec import PixelSpec

NO_LABEL = "(none of these)"
PROGRESS_SECONDS = 5.0

TargetArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] FILE...",
        help="The classifier's name and pictures; with --all pictures only; with --out folders, archives and "
        "lists of addresses too.",
        autocompletion=complete_name,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Ask every classifier that has a version.")]
VersionOption = Annotated[
    str | None, typer.Option(metavar="VERSION", help="Ask this version instead of the default one.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write a row for each picture of files, folders, archives and lists into this CSV file; "
        "continues a file that is there.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Tell which pictures were shrunk, and how.")]

Report = Callable[[str], None]


def predict(
    target: TargetArgument,
    ask_all: AllOption = False,
    version: VersionOption = None,
    out: OutOption = None,
    wide: WideOption = False,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the served model, or all, what is on some pictures; exit 1 if no picture could be answered."""
    if ask_all and version:
        raise typer.BadParameter("--version is of one classifier; it does not go with --all.")
    names, files = ([], target) if ask_all else (target[:1], target[1:])
    if not files:
        raise typer.BadParameter("Missing argument 'FILE...'.")
    if out is not None:
        if ask_all:
            raise typer.BadParameter("--out is of one classifier; it does not go with --all.")
        report = print_note if verbose else _ignore
        _predict_into(out, names[0], version, map(Path, files), report, as_json=as_json)
    engine = connect_engine(require_stack())
    paths = list(dict.fromkeys(Path(file) for file in files))
    report = print_note if verbose else _ignore
    if ask_all:
        ordered = ask_every_model(engine, paths, report)
    else:
        ordered = ask_model(engine, names[0], version, paths, report)
    if as_json:
        print_json([each.to_dict() for each in ordered])
    else:
        _print_answers(ordered, wide=wide)
    raise typer.Exit(ExitCode.OK if any(each.error is None for each in ordered) else ExitCode.ERROR)


def _predict_into(
    out: Path, name: str, version: str | None, paths: Iterable[Path], report: Report, *, as_json: bool
) -> NoReturn:
    """Write the answers for many pictures into a CSV file, after those that are there already."""
    from pipeline.bulk.pictures import list_pictures
    from pipeline.bulk.results import ResultsFile
    from pipeline.bulk.run import BulkCounts, predict_bulk
    from pipeline.datasets.fetcher import FetchPolicy

    engine = connect_engine(require_stack())
    counts, last_note = BulkCounts(), time.monotonic()
    with ResultsFile(path=out, classifier=name) as results:
        num_done = len(results.done)
        version = _choose_version(engine, results, version)
        fit = partial(_fit, engine, {name: version}, report=report)
        with closing(list_pictures(paths, results.done, FetchPolicy.from_environment())) as pictures:
            for answers in predict_bulk(engine, name, version, pictures, fit):
                results.append(answers)
                counts.add(answers)
                if time.monotonic() - last_note > PROGRESS_SECONDS:
                    last_note = time.monotonic()
                    print_note(f"  {counts.answered} answered, {counts.failed} not")
    _print_bulk(out, version, counts, num_done, as_json=as_json)
    raise typer.Exit(ExitCode.OK if counts.answered or num_done else ExitCode.ERROR)


def _choose_version(engine: MLEngine, results: ResultsFile, version: str | None) -> str:
    """Return the version of the rows that are there, or else the one that is asked for: all are of one."""
    if results.version is not None and version not in (None, results.version):
        raise UsageError(
            f"--version: {results.path} has answers of {results.version}, not {version}; name another file."
        )
    return results.version or version or find_version(engine, results.classifier)


def _print_bulk(out: Path, version: str, counts: BulkCounts, num_done: int, *, as_json: bool) -> None:
    numbers = {"answered": counts.answered, "failed": counts.failed, "skipped": num_done}
    if as_json:
        print_json({"file": str(out), "version": version, **numbers})
        return
    failed = f", {counts.failed} not (column `error` says why)" if counts.failed else ""
    skipped = f"; {num_done} were there already" if num_done else ""
    print_text(f"{out}: {counts.answered} answered by {version}{failed}{skipped}.")


def _ignore(_text: str) -> None:
    """Tell nobody."""


def ask_model(
    engine: MLEngine, name: str, version: str | None, paths: list[Path], report: Report = _ignore
) -> list[PicturePrediction]:
    """Return what one classifier answers for each file."""
    version = version or find_version(engine, name)
    pictures, unread = read_files(paths)
    pictures = _fit(engine, {name: version}, pictures, report)
    answers = {each.file: each for each in predict_pictures(engine, name, pictures, version=version)}
    for file, reason in unread.items():
        answers[file] = PicturePrediction(file=file, version=version, error=reason)
    return [answers[str(path)] for path in paths]


def _fit(
    engine: MLEngine, versions: Mapping[str, str], pictures: dict[str, bytes], report: Report
) -> dict[str, bytes]:
    """Return pictures that a request may hold, if all versions are fed the same pixels."""
    from pipeline.deploy.payload import find_pixel_spec, fit_pictures

    def find_spec() -> PixelSpec | None:
        workspace = open_workspace()
        specs = {find_pixel_spec(workspace, engine, name, version) for name, version in versions.items()}
        sizes = {replace(spec, offset=0.0, divisor=1.0) for spec in specs if spec}
        return next(iter(specs)) if len(sizes) == 1 and None not in specs else None

    return fit_pictures(pictures, find_spec, report)


def ask_every_model(engine: MLEngine, paths: list[Path], report: Report = _ignore) -> list[PicturePrediction]:
    """Return what the default version of each classifier answers for each file.

    Raises:
        PlatformError: if no classifier has a version.
    """
    from pipeline.deploy.version import default_versions

    versions = default_versions(engine)
    if not versions:
        raise PlatformError("No classifier has a version to ask. Make one with `graft run NAME`.")
    pictures, unread = read_files(paths)
    pictures = _fit(engine, versions, pictures, report)
    answers: list[PicturePrediction] = []
    for path in map(str, paths):
        if path in unread:
            answers.append(PicturePrediction(file=path, version="", error=unread[path]))
        else:
            answers += predict_by_all(engine, versions, path, pictures[path])
    return answers


def predict_by_all(
    engine: MLEngine, versions: Mapping[str, str], file: str, data: bytes
) -> list[PicturePrediction]:
    """Return the answer of each classifier for one picture, in one request."""
    instance: JsonValue = {"key": file, "inputs": {"b64": base64.b64encode(data).decode()}}
    asked = {f"{name}/versions/{version}": (name, version) for name, version in versions.items()}
    results = engine.predict_many(list(asked), [instance], signature_name="keyed")
    answers = []
    for target, (name, version) in asked.items():
        result = results[target]
        if isinstance(result, PlatformError):
            text = result.message.rpartition(FIRST_INSTANCE)[2]
            answers.append(PicturePrediction(file=file, classifier=name, version=version, error=text))
        else:
            answers.append(read_answer(result[0], file, version, name))
    return answers


def _print_answers(answers: list[PicturePrediction], *, wide: bool) -> None:
    answered = [each for each in answers if each.error is None]
    are_many = any(each.classifier for each in answered)
    if answered:
        rows = [
            (
                PathText(each.file),
                *((each.classifier,) if are_many else ()),
                *(each.label or NO_LABEL, each.score, each.novelty, each.version),
            )
            for each in answered
        ]
        columns = ("file", *(("classifier",) if are_many else ()), "label", "score", "novelty", "version")
        print_table(columns, rows, wide=wide)
    for each in answers:
        if each.error is not None:
            where = f"{each.file}: {each.classifier}" if each.classifier else each.file
            print_note(each.error if each.file in each.error else f"{where}: {each.error}")


def read_files(files: list[Path]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the bytes of each file that can be read, and why the others cannot."""
    pictures, unread = {}, {}
    for path in files:
        try:
            pictures[str(path)] = path.read_bytes()
        except OSError as error:
            hint = "; name a file with --out for folders" if path.is_dir() else ""
            unread[str(path)] = f"{path} cannot be read: {error.strerror}{hint}"
    return pictures, unread
