"""`graft predict`: what a served version says of pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, require_stack
from pipeline.cli.output import ExitCode, JsonOption, NameArgument, print_json, print_note
from pipeline.cli.tables import PathText, WideOption, print_table
from pipeline.errors import PlatformError
from pipeline.types import JsonDict, JsonValue

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine

NO_LABEL = "(none of these)"
MAX_REQUEST_BYTES = 6_000_000  # of pictures; base64 makes four bytes of three, and the engine takes 10 MB
REFUSED = (200, 400)  # v1 answers a bad instance with 200 and `{"error": ...}`
FIRST_INSTANCE = "instance 0: "  # what v1 says before the reason, of a request with one picture

FilesArgument = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures.")]
VersionOption = Annotated[str | None, typer.Option(help="Ask this version instead of the default one.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePrediction:
    """A version's answer for one picture, or why there is none.

    Args:
        file: The picture.
        version: The version that was asked.
        label: The class; None if the version rejects the picture, or did not answer.
        score: Probability of the most probable class.
        outputs: Probability of each class.
        error: Why there is no answer; None if there is one.
    """

    file: str
    version: str
    label: str | None = None
    score: float | None = None
    novelty: float | None = None
    outputs: tuple[float, ...] = ()
    error: str | None = None

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        if self.error is not None:
            return {"file": self.file, "error": self.error, "version": self.version}
        return {
            "file": self.file,
            "label": self.label,
            "score": self.score,
            "novelty": self.novelty,
            "outputs": list(self.outputs),
            "version": self.version,
        }


def predict(
    name: NameArgument,
    files: FilesArgument,
    version: VersionOption = None,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the served model what is on some pictures; exit 1 if it could answer for none of them."""
    engine = connect_engine(require_stack())
    version = version or find_version(engine, name)
    pictures, unread = read_files(files)
    answers = {each.file: each for each in predict_pictures(engine, name, pictures, version=version)}
    for file, reason in unread.items():
        answers[file] = PicturePrediction(file=file, version=version, error=reason)
    ordered = [answers[str(path)] for path in dict.fromkeys(files)]
    if as_json:
        print_json([each.to_dict() for each in ordered])
    else:
        _print_answers(ordered, wide=wide)
    raise typer.Exit(ExitCode.OK if any(each.error is None for each in ordered) else ExitCode.ERROR)


def _print_answers(answers: list[PicturePrediction], *, wide: bool) -> None:
    answered = [each for each in answers if each.error is None]
    if answered:
        rows = [
            (PathText(each.file), each.label or NO_LABEL, each.score, each.novelty, each.version)
            for each in answered
        ]
        print_table(("file", "label", "score", "novelty", "version"), rows, wide=wide)
    for each in answers:
        if each.error is not None:
            print_note(each.error if each.file in each.error else f"{each.file}: {each.error}")


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
        answer = by_key[file]
        yield PicturePrediction(
            file=file,
            version=version,
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
        if batch and num_bytes + len(data) > MAX_REQUEST_BYTES:
            yield batch
            batch, num_bytes = {}, 0
        batch[file] = data
        num_bytes += len(data)
    if batch:
        yield batch
