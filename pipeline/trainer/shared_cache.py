"""What one job leaves in the workspace for later ones: features, converted backbones and templates."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pipeline.artifacts.folders import SharedFile
from pipeline.errors import FormatTooNew, RecordInvalid, StorageError
from pipeline.storage import Storage
from pipeline.types import JsonObject

logger = logging.getLogger(__name__)

MAX_COPIES = 5  # of one file, each made because those before were damaged


class SharedRecord(Protocol):
    """The record of a shared file."""

    @property
    def sha256(self) -> str:
        """The digest of the file."""

    def to_dict(self) -> JsonObject:
        """Return plain JSON values."""


RecordT = TypeVar("RecordT", bound=SharedRecord)


@dataclass(frozen=True, slots=True)
class CheckedFile(Generic[RecordT]):
    """A local file that has the digest of its record.

    Args:
        path: Of the file; to be read only.
        record: What is known of it.
    """

    path: Path
    record: RecordT


def share_bytes(storage: Storage, uri: str, data: bytes) -> bool:
    """Create an object for later jobs unless it exists; a job that may not write there only logs it.

    The engine lets a job create objects in the caches only if it knows the package of the job. An edited
    trainer package still trains; the next job computes again what this one could not share.

    Returns:
        False if the job may not write there.

    Raises:
        StorageError: if the write failed for another reason.
    """
    try:
        storage.create_bytes(uri, data)
    except StorageError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        logger.warning("%s is not kept for later jobs: %s", uri, error)
        return False
    return True


def find_shared(
    file: SharedFile, read_record: Callable[[JsonObject], RecordT]
) -> CheckedFile[RecordT] | None:
    """Return the first copy of a shared file that is what its record says, None if there is none.

    A damaged copy is refused by name.

    Args:
        file: Where its copies are.
        read_record: Reads a record from its JSON.
    """
    for copy in range(MAX_COPIES):
        if not file.storage.exists(file.record(copy)):
            continue  # a job was killed before it wrote the record, or found the file damaged at once
        try:
            record = read_record(file.storage.read_json(file.record(copy)))
            path = file.storage.local_path(file.data(copy))
        except (StorageError, ValueError, RecordInvalid, FormatTooNew) as error:
            logger.warning("%s is refused, and made again: %s", file.record(copy), error)
            continue
        digest = hash_file(path)
        if digest == record.sha256:
            return CheckedFile(path, record)
        logger.warning(
            "%s is refused, and made again: it has the SHA-256 %s, not %s of its record.",
            file.data(copy), digest, record.sha256,
        )  # fmt: skip
    return None


def share_file(file: SharedFile, path: Path, record: SharedRecord) -> None:
    """Share a file with later jobs, beside the copies that were refused."""
    storage = file.storage
    for copy in range(MAX_COPIES):
        if storage.exists(file.record(copy)):
            continue  # it was refused, or another job was faster, whose copy is found first
        if not share_bytes(storage, file.data(copy), path.read_bytes()):
            return
        if hash_file(storage.local_path(file.data(copy))) == record.sha256:
            text = json.dumps(record.to_dict(), indent=2, sort_keys=True)
            share_bytes(storage, file.record(copy), text.encode() + b"\n")
            return
    logger.warning("%s is not kept for later jobs: %d damaged copies are in the way.", file.stem, MAX_COPIES)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
