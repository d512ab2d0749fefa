"""Uploads to the buckets of a job: whole, with their metadata, or in pieces."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.message import Message
from typing import IO, BinaryIO

import google_crc32c

from pipeline.engine.backends.gcs.conditions import Conditions
from pipeline.errors import InvalidArgument, NotFound

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An object on its way.

    Args:
        bucket: Where it goes.
        name: Its name there.
        conditions: What must hold when it is complete.
        checksums: The digests that the client announced, by `crc32c` and `md5Hash`.
        file: Its bytes, as far as they have arrived.
    """

    bucket: str
    name: str
    conditions: Conditions
    checksums: Mapping[str, str]
    file: BinaryIO

    def check(self) -> None:
        """Compare the bytes with the digests that the client announced.

        Raises:
            InvalidArgument: if they differ.
        """
        actual = digests(self.file) if self.checksums else {}
        for kind, expected in self.checksums.items():
            if actual[kind] != expected:
                raise InvalidArgument(
                    f"Provided {kind} {expected!r} does not match the calculated one, {actual[kind]!r}."
                )
        self.file.seek(0)


def digests(file: BinaryIO) -> dict[str, str]:
    """Return the CRC32C and the MD5 of a file in the spelling of Cloud Storage."""
    crc32c, md5 = 0, hashlib.md5(usedforsecurity=False)
    file.seek(0)
    while block := file.read(_BLOCK):
        crc32c = google_crc32c.extend(crc32c, block)
        md5.update(block)
    return {
        "crc32c": base64.b64encode(crc32c.to_bytes(4)).decode(),
        "md5Hash": base64.b64encode(md5.digest()).decode(),
    }


def simple_upload(bucket: str, query: Mapping[str, str], body: bytes) -> Upload:
    """Return an object that is the whole body of a request."""
    return _upload(bucket, query, {}, io.BytesIO(body))


def multipart_upload(bucket: str, query: Mapping[str, str], content_type: str, body: bytes) -> Upload:
    """Return an object that follows its metadata in the body of a request."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = b"--" + str(header.get_param("boundary") or "").strip("'\"").encode()
    end = b"\r\n" if body.startswith(boundary + b"\r\n") else b"\n"
    _, _, rest = body.partition(end * 2)
    metadata, _, rest = rest.partition(end + boundary + end)
    _, _, rest = rest.partition(end * 2)
    data, end_mark, _ = rest.rpartition(end + boundary + b"--")
    if not end_mark:
        raise InvalidArgument("A multipart upload has two parts: the object's metadata, then its bytes.")
    return _upload(bucket, query, _read_facts(metadata), io.BytesIO(data))


def _read_facts(metadata: bytes) -> dict[str, str]:
    """Return the metadata of an upload that are texts: its name, its digests."""
    try:
        facts = json.loads(metadata)
    except ValueError as error:
        raise InvalidArgument(f"The metadata of an upload is JSON. {error}") from error
    if not isinstance(facts, dict):
        raise InvalidArgument(f"The metadata of an upload is a JSON object. Received: {metadata[:100]!r}")
    return {name: value for name, value in facts.items() if isinstance(value, str)}


def _upload(bucket: str, query: Mapping[str, str], facts: Mapping[str, str], file: IO[bytes]) -> Upload:
    name = facts.get("name") or query.get("name", "")
    if not name:
        raise InvalidArgument("The object has no name.")
    return Upload(
        bucket=bucket,
        name=name,
        conditions=Conditions.read(query),
        checksums={kind: facts[kind] for kind in ("crc32c", "md5Hash") if kind in facts},
        file=file,  # type: ignore[arg-type]
    )


class Uploads:
    """The resumable uploads that are under way."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}

    def begin(self, bucket: str, query: Mapping[str, str], metadata: bytes) -> str:
        """Begin one; return its id."""
        upload_id = secrets.token_urlsafe()
        upload = _upload(bucket, query, _read_facts(metadata), io.BytesIO())
        self._uploads[upload_id] = replace(upload, file=tempfile.TemporaryFile())
        return upload_id

    def add(self, upload_id: str, content_range: str, data: bytes) -> Upload | int:
        """Add a piece.

        Returns:
            The upload if it is complete, else how many bytes have arrived.
        """
        upload = self._uploads.get(upload_id)
        match = _RANGE.fullmatch(content_range or f"bytes 0-{len(data) - 1}/{len(data)}")
        if upload is None:
            raise NotFound("There is no such upload: it is complete, or the job began again since.")
        if match is None and data:
            raise InvalidArgument(f"Content-Range is `bytes FIRST-LAST/SIZE`. Received: {content_range!r}")
        size = upload.file.seek(0, os.SEEK_END)
        if match is not None and data and int(match[1] or 0) <= size:
            size = upload.file.seek(int(match[1] or 0)) + upload.file.write(data)
        total = match[3] if match else str(len(data))
        if total == "*" or size < int(total):
            return size
        return self._uploads.pop(upload_id)

    def cancel(self, upload_id: str) -> None:
        """Forget one."""
        self._uploads.pop(upload_id, None)
