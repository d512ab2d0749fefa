"""The files of a version: what kind of model they are, checked in their bucket and copied to this machine."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.engine.serving.limits import KERAS, ONNX, TENSORFLOW, TFLITE_FILE
from pipeline.errors import FailedPrecondition
from pipeline.storage import Storage

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
RUNTIMES = {".keras": KERAS, ".tflite": TFLITE_FILE, ".onnx": ONNX}  # of models that are one file
MAX_NAMED = 5  # directories in an error


def check_model_files(storage: Storage, uri: str, *, field: str, max_files: int = 1000) -> None:
    """Check that a directory is a model: a SavedModel, or one file of another format.

    Raises:
        FailedPrecondition: with ML Engine's own text and what to name instead, or if it has too many files.
    """
    prefix = f"{uri.rstrip('/')}/"
    names = [name.removeprefix(prefix) for name in storage.list_uris(prefix)]
    if len(names) > max_files and find_model(names):
        raise FailedPrecondition(
            f"Deployment directory {uri} has {len(names)} files; {max_files} are allowed.", field=field
        )
    if not find_model(names):
        candidates = [name for name in names if is_model_file(name)]
        raise FailedPrecondition(
            f"Deployment directory {uri} is expected to contain exactly one of the following: "
            f"'saved_model.pb' file or 'saved_model.pbtxt' file. Or one *.keras, *.tflite or *.onnx file. "
            f"Found: {', '.join(candidates) or 'neither'}.{_hint(uri, names, is_file=storage.exists(uri))}",
            field=field,
        )


def is_model_file(name: str) -> bool:
    """Return whether a file at the root of a directory may be its model, judged by its name."""
    return name in GRAPHS or ("/" not in name and Path(name).suffix in RUNTIMES)


def find_model(names: Collection[str]) -> str | None:
    """Return which of the files of a directory is the model, or None if that cannot be said."""
    graphs = [name for name in names if name in GRAPHS]
    files = [name for name in names if is_model_file(name) and name not in GRAPHS]
    (model,) = graphs if len(graphs) == 1 else files if len(files) == 1 and not graphs else [None]
    return model


def _hint(uri: str, names: Iterable[str], *, is_file: bool) -> str:
    if is_file:
        return f" It is a file; give its directory: {uri.rpartition('/')[0]}"
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    models = sorted(folder for folder, files in folders.items() if folder and find_model(files))
    if not models:
        return ""
    more = f" and {len(models) - MAX_NAMED} more" if len(models) > MAX_NAMED else ""
    return f" These of its directories hold a model; give one: {', '.join(models[-MAX_NAMED:])}{more}."


def runtime_of(directory: Path) -> str:
    """Return what runs the model in a local directory."""
    model = find_model([path.name for path in directory.iterdir() if path.is_file()])
    return RUNTIMES.get(Path(model or "").suffix, TENSORFLOW)


def model_file(directory: Path) -> Path:
    """Return the file that the model in a local directory is.

    Raises:
        FailedPrecondition: if there is none, or more than one.
    """
    model = find_model([path.name for path in directory.iterdir() if path.is_file()])
    if model is None:
        raise FailedPrecondition(f"{directory} has no model.")
    return directory / model


def fetch_model(storage: Storage, uri: str, directory: Path, *, is_ours: bool = False) -> None:
    """Copy a model to a local directory, which appears complete or not at all.

    Args:
        storage: Reads it.
        uri: The directory of the model.
        directory: The destination.
        is_ours: Whether only the engine writes under `uri`; then a link is as good as a copy.
    """
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}.part")
    try:
        storage.download_tree(uri, partial, may_link=is_ours)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
