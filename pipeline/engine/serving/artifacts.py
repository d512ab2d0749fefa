"""The files of a version: a SavedModel, checked in its bucket and copied to this machine."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from pipeline.errors import FailedPrecondition
from pipeline.storage import Storage

GRAPHS = ("saved_model.pb", "saved_model.pbtxt")


def check_saved_model(storage: Storage, uri: str, *, field: str, max_files: int = 1000) -> None:
    """Check that a directory is a SavedModel.

    Raises:
        FailedPrecondition: with ML Engine's own text, or if it has too many files.
    """
    count = len(storage.list_uris(f"{uri.rstrip('/')}/"))
    if count > max_files:
        raise FailedPrecondition(
            f"Deployment directory {uri} has {count} files; {max_files} are allowed.", field=field
        )
    graphs = [name for name in GRAPHS if storage.exists(f"{uri.rstrip('/')}/{name}")]
    if len(graphs) != 1:
        raise FailedPrecondition(
            f"Deployment directory {uri} is expected to contain exactly one of the following: "
            f"'saved_model.pb' file or 'saved_model.pbtxt' file. Found: {', '.join(graphs) or 'neither'}.",
            field=field,
        )


def fetch_model(storage: Storage, uri: str, directory: Path, *, is_ours: bool = False) -> None:
    """Copy a SavedModel to a local directory, which appears complete or not at all.

    Args:
        storage: Reads it.
        uri: The SavedModel.
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
