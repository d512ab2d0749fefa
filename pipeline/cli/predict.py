"""`graft predict`: what a served version, or each classifier's, says of pictures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import ExitCode, JsonOption, complete_name, print_json, print_note
from pipeline.cli.tables import PathText, WideOption, print_table
from pipeline.errors import PlatformError
from pipeline.types import JsonDict, JsonValue

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.pixels.spec import PixelSpec

NO_LABEL = "(none of these)"
MAX_REQUEST_BYTES = 1_100_000  # of pictures, which are four bytes for three in base64: v1 takes 1.5 MB
MAX_REQUEST_PICTURES = 256  # what is around a picture counts too
REFUSED = (200, 400)  # v1 answers a bad instance with 200 and `{"error": ...}`
FIRST_INSTANCE = "instance 0: "  # what v1 says before the reason, of a request with one picture

TargetArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] FILE...",
        help="The classifier's name and pictures; with --all pictures only.",
        autocompletion=complete_name,
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Ask every classifier that has a version.")]
VersionOption = Annotated[str | None, typer.Option(help="Ask this version instead of the default one.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Tell which pictures were shrunk, and how.")]

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePrediction:
    """A version's answer for one picture, or why there is none.

    Args:
        file: The picture.
        version: The version that was asked.
        classifier: Its classifier, where several were asked.
        label: The class; None if the version rejects the picture, or did not answer.
        score: Probability of the most probable class.
        outputs: Probability of each class.
        error: Why there is no answer; None if there is one.
    """

    file: str
    version: str
    classifier: str | None = None
    label: str | None = None
    score: float | None = None
    novelty: float | None = None
    outputs: tuple[float, ...] = ()
    error: str | None = None

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        asked = {"classifier": self.classifier} if self.classifier else {}
        if self.error is not None:
            return {"file": self.file, **asked, "error": self.error, "version": self.version}
        return {
            "file": self.file,
            **asked,
            "label": self.label,
            "score": self.score,
            "novelty": self.novelty,
            "outputs": list(self.outputs),
            "version": self.version,
        }


def predict(
    target: TargetArgument,
    ask_all: AllOption = False,
    version: VersionOption = None,
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
            answers.append(_read_answer(result[0], file, version, name))
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
            unread[str(path)] = f"{path} cannot be read: {error.strerror}"
    return pictures, unread


def find_version(engine: MLEngine, name: str) -> str:
    """Return the default version of a model.

    Raises:
        PlatformError: if it has none.
    """
    from pipeline.ml_engine.protocol import default_version

    version = default_version(engine.get_model(name))
    if version is None:
        raise PlatformError(f"The model {name!r} has no version to ask. Make one with `graft run {name}`.")
    return version


def predict_pictures(
    engine: MLEngine, name: str, pictures: Mapping[str, bytes], *, version: str | None = None
) -> list[PicturePrediction]:
    """Return an answer or an error for each picture, all from one version.

    Args:
        engine: Where the model is served.
        name: The model.
        pictures: Encoded pictures by name.
        version: The version to ask; the default one if None.

    Raises:
        PlatformError: if there is no such model or version, or the engine does not answer.
    """
    version = version or find_version(engine, name)
    return [answer for batch in _batches(pictures) for answer in _predict_batch(engine, name, version, batch)]


def _predict_batch(
    engine: MLEngine, name: str, version: str, batch: Mapping[str, bytes]
) -> Iterator[PicturePrediction]:
    instances: list[JsonValue] = [
        {"key": file, "inputs": {"b64": base64.b64encode(data).decode()}} for file, data in batch.items()
    ]
    try:
        answers = engine.predict(name, instances, version=version, signature_name="keyed")
    except PlatformError as error:
        if error.details.get("status") not in REFUSED:
            raise
        yield from _refused(engine, name, version, batch, error)
        return
    by_key = {str(answer["key"]): answer for answer in answers if isinstance(answer, dict)}
    for file in batch:
        yield _read_answer(by_key[file], file, version)


def _read_answer(
    value: JsonValue, file: str, version: str, classifier: str | None = None
) -> PicturePrediction:
    answer: JsonDict = dict(value) if isinstance(value, Mapping) else {}
    return PicturePrediction(
        file=file,
        version=version,
        classifier=classifier,
        label=answer["label"] or None,  # a SavedModel can only say "": none of these
        score=answer["score"],
        novelty=answer.get("novelty"),  # models of early releases have none
        outputs=tuple(answer["outputs"]),
    )


def _refused(
    engine: MLEngine, name: str, version: str, batch: Mapping[str, bytes], error: PlatformError
) -> Iterator[PicturePrediction]:
    """Ask for each half of a refused request again, so that one bad picture costs no other its answer."""
    files = list(batch)
    if len(files) == 1:
        yield PicturePrediction(
            file=files[0], version=version, error=error.message.rpartition(FIRST_INSTANCE)[2]
        )
        return
    middle = len(files) // 2
    for half in (files[:middle], files[middle:]):
        yield from _predict_batch(engine, name, version, {file: batch[file] for file in half})


def _batches(pictures: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    num_bytes = 0
    for file, data in pictures.items():
        is_full = num_bytes + len(data) > MAX_REQUEST_BYTES or len(batch) == MAX_REQUEST_PICTURES
        if batch and is_full:
            yield batch
            batch, num_bytes = {}, 0
        batch[file] = data
        num_bytes += len(data)
    if batch:
        yield batch
