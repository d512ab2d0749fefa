"""Damage of objects in a bucket: found when they are read back, named, and made good where that is possible.

Objects that are named by the SHA-256 of what they hold are compared with their names; events of the
history carry a digest of their own; a dataset's manifest has its in the Croissant description beside it. NPZ
archives have checksums in them, which reading checks (`pipeline.npz`).
"""

from __future__ import annotations

import hashlib
import json
import logging

from pipeline.errors import DamagedObject
from pipeline.storage import Storage
from pipeline.types import JsonObject

log = logging.getLogger(__name__)

DIGEST_KEY = "sha256"  # of a record, over all its other keys


def keep_addressed(storage: Storage, uri: str, data: bytes) -> None:
    """Write an object that is named by its content, unless it is there; write it again if it is damaged."""
    if storage.create_bytes(uri, data) or storage.read_bytes(uri) == data:
        return
    log.error("%s was damaged and is written again.", uri)
    storage.write_bytes(uri, data)


def is_intact(storage: Storage, uri: str, digest: str) -> bool:
    """Return True if an object is there and has this SHA-256; log that it is damaged if it has another."""
    if not storage.exists(uri):
        return False
    with storage.local_path(uri).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == digest:
            return True
    log.error("%s is damaged: its SHA-256 is not %s.", uri, digest)
    return False


def read_blob(storage: Storage, uri: str) -> bytes:
    """Return the bytes of a picture file, which its SHA-256 names.

    Raises:
        DamagedObject: if they are others. The file is removed, so that the next fetch reads its source again.
    """
    data = storage.read_bytes(uri)
    if hashlib.sha256(data).hexdigest() != uri.rpartition("/")[2]:
        storage.delete(uri)
        raise DamagedObject(
            f"{uri} was damaged and is removed. Start another run, which reads the picture from its source.",
            uri=uri,
        )
    return data


def sign_record(value: JsonObject) -> JsonObject:
    """Return a record with the digest of its keys."""
    return {**value, DIGEST_KEY: digest_of(value)}


def check_record(value: JsonObject, uri: str) -> JsonObject:
    """Return a record without its digest; one of an earlier release has none.

    Raises:
        DamagedObject: if the digest is another one.
    """
    if not isinstance(value, dict) or DIGEST_KEY not in value:
        return value
    rest = {name: field for name, field in value.items() if name != DIGEST_KEY}
    if value[DIGEST_KEY] != digest_of(rest):
        raise damaged(uri, f"its `{DIGEST_KEY}` is not that of its other keys")
    return rest


def damaged(uri: str, reason: str) -> DamagedObject:
    """Return the error of an object that only a backup can bring back."""
    text = f"{uri} is damaged: {reason}. Restore it from a backup, or move it away to go on without it."
    return DamagedObject(text, uri=uri)


def digest_of(value: JsonObject) -> str:
    """Return the SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
