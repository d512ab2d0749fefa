"""`graft predict`: what a served version says of pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.connection import connect_engine, require_stack
from pipeline.cli.output import JsonOption, NameArgument, print_json, print_table
from pipeline.errors import PlatformError

if TYPE_CHECKING:
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.types import JsonValue

NO_LABEL = "(none of these)"
MAX_REQUEST_BYTES = 6_000_000  # of pictures; base64 makes four bytes of three, and the engine takes 10 MB

FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True, help="Pictures."),
]
VersionOption = Annotated[str | None, typer.Option(help="Ask this version instead of the default one.")]


def predict(
    name: NameArgument, files: FilesArgument, version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """Ask the served model what is on some pictures."""
    engine = connect_engine(require_stack())
    pictures = {str(path): path.read_bytes() for path in dict.fromkeys(files)}
    answers = predict_pictures(engine, name, pictures, version=version)
    if as_json:
        print_json(answers)
        return
    columns = ("file", "label", "score", "version")
    shown = [{**answer, "label": answer["label"] or NO_LABEL} for answer in answers]
    print_table(columns, [[answer[column] for column in columns] for answer in shown])


def predict_pictures(
    engine: MLEngine, name: str, pictures: Mapping[str, bytes], *, version: str | None = None
) -> list[dict[str, Any]]:
    """Return label, score and outputs of pictures, all from one version.

    Args:
        engine: Where the model is served.
        name: The model.
        pictures: Encoded pictures by name.
        version: The version to ask; the default one unless given.

    Raises:
        PlatformError: if there is no such model or version, or a picture is refused; it names the picture.
    """
    from pipeline.ml_engine.protocol import default_version

    version = version or default_version(engine.get_model(name))
    if version is None:
        raise PlatformError(f"The model {name!r} has no version to ask. Make one with `graft run {name}`.")
    answers = []
    for batch in _batches(pictures):
        instances: list[JsonValue] = [
            {"key": file, "inputs": {"b64": base64.b64encode(data).decode()}} for file, data in batch.items()
        ]
        found: list[Any] = engine.predict(name, instances, version=version, signature_name="keyed")
        by_key = {answer["key"]: answer for answer in found}
        answers += [_answer(file, by_key[file], version) for file in batch]
    return answers


def _answer(file: str, answer: Mapping[str, Any], version: str) -> dict[str, Any]:
    label = answer["label"] or None  # a SavedModel can only say "": none of these
    rest = {key: answer[key] for key in ("score", "outputs")}
    return {"file": file, "label": label, **rest, "version": version}


def _batches(pictures: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    batch: dict[str, bytes] = {}
    for file, data in pictures.items():
        if batch and sum(map(len, batch.values())) + len(data) > MAX_REQUEST_BYTES:
            yield batch
            batch = {}
        batch[file] = data
    if batch:
        yield batch
