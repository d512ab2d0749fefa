"""The record of which files the engine's copy of a version has, with their digests and one of its own."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping

from pipeline.errors import FormatTooNew
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

log = logging.getLogger(__name__)

FORMAT = 1
RECORD_DIGEST = "sha256"  # of the record, over its other keys; records of earlier releases have none


def write_record(storage: Storage, uri: str, digests: Mapping[str, str]) -> None:
    """Write which files a copy has.

    Args:
        storage: Where to.
        uri: Of the record.
        digests: The SHA-256 of each file, by its name below the copy.
    """
    value: JsonObject = {"format": FORMAT, "files": dict(digests)}
    storage.write_json(uri, {**value, RECORD_DIGEST: _digest_of(value)})


def read_record(storage: Storage, uri: str) -> dict[str, str] | None:
    """Return the SHA-256 of each file of a copy as it was made; None if the record is missing or damaged.

    Raises:
        FormatTooNew: if a newer release wrote it.
    """
    if not storage.exists(uri):
        return None
    try:
        value: JsonValue = storage.read_json(uri)
    except ValueError:
        value = None
    files = _read_files(value, uri)
    if files is None:
        log.error("%s is damaged; the digests of the version's files are not known.", uri)
    return files


def _read_files(value: JsonValue, uri: str) -> dict[str, str] | None:
    if not isinstance(value, Mapping):
        return None
    number = value.get("format", 0)
    FormatTooNew.check(f"record {uri}", number if isinstance(number, int) else 0, FORMAT)
    rest = {key: field for key, field in value.items() if key != RECORD_DIGEST}
    files = rest.get("files")
    if value.get(RECORD_DIGEST, _digest_of(rest)) != _digest_of(rest) or not isinstance(files, Mapping):
        return None
    return {name: str(digest) for name, digest in files.items()} or None  # a copy has at least its model


def _digest_of(value: JsonObject) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
