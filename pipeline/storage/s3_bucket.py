"""A bucket of an S3-compatible store, with what `buckets.Bucket` asks of one.

"If absent" is the store's: `If-None-Match: *`. A store that does not know it would let two racers win, so
`graft doctor` tries it.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from pipeline.errors import ConfigError, ObjectNotFound, StorageError
from pipeline.storage.addresses import S3Address
from pipeline.storage.buckets import delete_parts, path_below
from pipeline.storage.s3_errors import MISSING, code_of, s3_errors

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.exceptions import ClientError

PART_BYTES = 2**23  # of a large object; what has more than two is sent and fetched in parts, some at a time
MAX_PARTS = 10_000  # of one upload, says S3
AT_ONCE = 8
# Of one request: random waits of at most 1, 2, 4, 8 and 16 s between them, half a minute in all. Botocore's
# mode `standard` waits 1.6 s in all since 2026, and a store that was away for longer ended a run.
TRIES, RETRY_MODE = 6, "legacy"
CONNECT_SECONDS, READ_SECONDS = 10, 60
WRITER = "graft-writer"  # metadata: which request created an object


class S3Bucket:
    """A bucket of an S3-compatible store.

    Args:
        name: What Graft calls it.
        address: Where it is.
        cache: Directory for `local_path` copies, one file per state of an object.
    """

    at_once: ClassVar[int] = AT_ONCE

    def __init__(self, name: str, address: S3Address, cache: Path) -> None:
        self._address = address
        self._cache = cache / name
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._errors = partial(s3_errors, address=address)
        with self._errors("Opening", key=self._prefix):
            self._client = s3_client(address.endpoint, address.region)

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": f"{self._prefix}{key}"}

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        with self._errors("Reading", key=f"{self._prefix}{key}", needs_object=True):
            data: bytes = self._client.get_object(**self._place(key))["Body"].read()
        return data

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""
        if if_absent:
            return self._create(key, data)
        with self._errors("Writing", key=f"{self._prefix}{key}"):
            self._client.put_object(**self._place(key), Body=data)
        return True

    def _create(self, key: str, body: bytes | BinaryIO) -> bool:
        """Put an object where none is; a request that was sent twice, because no answer came, won once."""
        from botocore.exceptions import ClientError

        writer = uuid.uuid4().hex
        with self._errors("Writing", key=f"{self._prefix}{key}"):
            for tries_left in range(TRIES - 1, -1, -1):
                if not isinstance(body, bytes):
                    body.seek(0)
                try:
                    self._client.put_object(
                        **self._place(key), Body=body, IfNoneMatch="*", Metadata={WRITER: writer}
                    )
                except ClientError as error:
                    if code_of(error) == "PreconditionFailed":
                        return _was_sent_twice(error) and self._writer(key) == writer
                    if code_of(error) != "ConditionalRequestConflict" or not tries_left:  # deleted meanwhile
                        raise
                else:
                    return True
        raise AssertionError("the last try returns or raises")

    def _writer(self, key: str) -> str:
        facts = self._client.head_object(**self._place(key))
        return str(facts["Metadata"].get(WRITER, ""))

    def write_large(self, key: str, write: Callable[[BinaryIO], None], *, if_absent: bool) -> bool:
        """Write the object as `write` puts it into a seekable file; else as `write`."""
        with self._errors("Writing", key=f"{self._prefix}{key}"):
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._cache) as file:  # /tmp may be memory
                write(file)
                size = file.seek(0, os.SEEK_END)
                if if_absent:
                    return self._create(key, file)
                if size > 2 * PART_BYTES:
                    self._put_parts(key, file, size)
                else:
                    file.seek(0)
                    self._client.put_object(**self._place(key), Body=file)
        return True

    def _put_parts(self, key: str, file: BinaryIO, size: int) -> None:
        file.flush()
        upload = {"UploadId": self._client.create_multipart_upload(**self._place(key))["UploadId"]}
        step = max(PART_BYTES, -(-size // MAX_PARTS))

        def put(number: int) -> dict[str, str | int]:
            body = os.pread(file.fileno(), step, (number - 1) * step)
            part = self._client.upload_part(**self._place(key), **upload, PartNumber=number, Body=body)
            return {"ETag": part["ETag"], "PartNumber": number}

        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                parts = list(pool.map(put, range(1, -(-size // step) + 1)))
            self._client.complete_multipart_upload(
                **self._place(key), **upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            self._client.abort_multipart_upload(**self._place(key), **upload)
            raise

    def exists(self, key: str) -> bool:
        """Return True if the object exists."""
        with self._errors("Looking for", key=f"{self._prefix}{key}"):
            return self._head(key) is not None

    def _head(self, key: str) -> Any | None:
        """Return what the store says of an object, None if it is not there."""
        from botocore.exceptions import ClientError

        try:
            return self._client.head_object(**self._place(key))
        except ClientError as error:
            if code_of(error) in MISSING:
                return None
            # The answer to HEAD has no body that says why; that to a listing does.
            self._client.list_objects_v2(Bucket=self._address.bucket, Prefix=self._prefix, MaxKeys=1)
            raise

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix, but for the markers `folder/` that consoles make."""
        with self._errors("Listing", key=f"{self._prefix}{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._address.bucket, Prefix=f"{self._prefix}{prefix}"
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield entry["Key"][len(self._prefix) :]

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        with self._errors("Deleting", key=f"{self._prefix}{key}"):
            self._client.delete_object(**self._place(key))

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""
        with self._errors("Reading", key=f"{self._prefix}{key}"):
            facts = self._head(key)
            if facts is None:
                raise ObjectNotFound(
                    f"There is no object s3://{self._address.bucket}/{self._prefix}{key}.", key=key
                )
            path = path_below(self._cache / facts["ETag"].strip('"'), key)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}.part")
                self._fetch(key, part, facts["ETag"], facts["ContentLength"])
                part.replace(path)
        return path

    def _fetch(self, key: str, path: Path, etag: str, size: int) -> None:
        """Fetch one state of an object into a file, several of its parts at a time."""
        from botocore.exceptions import ClientError

        def fetch(start: int) -> None:
            whole = {"Range": f"bytes={start}-{start + PART_BYTES - 1}"} if size > PART_BYTES else {}
            body = self._client.get_object(**self._place(key), **whole, IfMatch=etag)["Body"]
            for piece in body.iter_chunks(2**20):
                start += os.pwrite(file.fileno(), piece, start)

        try:
            with path.open("xb") as file, ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(fetch, range(0, size or 1, PART_BYTES)))
        except ClientError as error:
            if code_of(error) == "PreconditionFailed":
                raise StorageError(f"{key} was replaced while it was read; try again.", key=key) from error
            raise

    def location(self, key: str) -> str:
        """Return the place of a key without the empty parts that a directory would not have."""
        address = self._address
        return posixpath.normpath(f"/{address.endpoint}/{address.bucket}/{self._prefix}{key}")

    def delete_parts(self, *, before: float) -> int:
        """Remove the local copies that were never finished; return how many files."""
        return delete_parts(self._cache, before=before)


@lru_cache(maxsize=16)
def s3_client(endpoint: str, region: str) -> BaseClient:
    """Return a client, which threads may share; a fork makes its own, because it has the parent's sockets."""
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as error:
        raise ConfigError(
            "GRAFT_BUCKETS maps a bucket to s3://, which needs the package botocore. "
            "Install it: pip install 'graft[s3]'"
        ) from error
    # Other stores than Amazon's may not know the checksums that are sent in trailers.
    checksums: dict[str, Any] = (
        {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        if endpoint
        else {}
    )
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=AT_ONCE * AT_ONCE,
        retries={"mode": RETRY_MODE, "total_max_attempts": TRIES},
        s3={"addressing_style": "path"} if endpoint else {},
        **checksums,
    )
    session = Session()
    return session.create_client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region or session.get_config_variable("region") or "us-east-1",
        config=config,
    )


os.register_at_fork(after_in_child=s3_client.cache_clear)


def _was_sent_twice(error: ClientError) -> bool:
    return int(error.response["ResponseMetadata"].get("RetryAttempts", 0)) > 0
