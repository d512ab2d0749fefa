"""What a version is made of: a directory with a SavedModel, checked in its bucket and copied here."""

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
    found = [name for name in GRAPHS if storage.exists(f"{uri.rstrip('/')}/{name}")]
    if len(found) != 1:
        raise FailedPrecondition(
            f"Deployment directory {uri} is expected to contain exactly one of the following: "
            f"'saved_model.pb' file or 'saved_model.pbtxt' file. Found: {', '.join(found) or 'neither'}.",
            field=field,
        )


def fetch_model(storage: Storage, uri: str, directory: Path, *, is_ours: bool = False) -> None:
    """Copy a SavedModel to a local directory, which appears whole.

    Args:
        storage: Where it is.
        uri: The SavedModel.
        directory: Where to.
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
