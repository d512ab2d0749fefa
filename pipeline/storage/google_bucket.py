"""A bucket of Google Cloud Storage, with what `buckets.Bucket` asks of one."""

from __future__ import annotations

import io
import os
import posixpath
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar

from pipeline.errors import ObjectNotFound, StorageError, UnknownBucket
from pipeline.storage.buckets import delete_parts, path_below

CHUNK_BYTES = 2**23  # of an upload; the client's own are 100 MB
AT_ONCE = 8  # the client keeps ten connections; it asks again for two minutes where that is safe


class GoogleBucket:
    """A bucket of Google Cloud Storage; the client is made on first use.

    Args:
        name: The bucket's name.
        cache: Directory for `local_path` copies, one file per object generation.
    """

    at_once: ClassVar[int] = AT_ONCE

    def __init__(self, name: str, cache: Path) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage

        try:
            self._bucket = storage.Client().bucket(name)
        except (GoogleAuthError, OSError) as error:
            raise UnknownBucket(
                f"The bucket {name!r} is not mapped to a directory, and Google Cloud Storage says: "
                f"{str(error).rstrip('.')}. "
                f"Map it with GRAFT_BUCKETS={name}=/some/directory or {name}=s3://some-bucket, or set "
                "GOOGLE_APPLICATION_CREDENTIALS.",
                bucket=name,
            ) from error
        self._cache = cache / name

    @contextmanager
    def _asking(self, what: str, key: str, *, needs_object: bool = False) -> Iterator[None]:
        """Raise the client's errors, and those of files on the way, as ours."""
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests import RequestException

        uri = f"gs://{self._bucket.name}/{key}"
        try:
            yield
        except NotFound as error:
            if needs_object:
                raise ObjectNotFound(f"There is no object {uri}.", key=key) from error
            message = f"{what} {uri} failed: {error} Make the bucket, or correct its name."
            raise UnknownBucket(message, bucket=self._bucket.name) from error
        except (GoogleAPIError, GoogleAuthError, RequestException, DataCorruption, OSError) as error:
            raise StorageError(f"{what} {uri} failed: {error}", key=key) from error

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        with self._asking("Reading", key, needs_object=True):
            data: bytes = self._bucket.blob(key).download_as_bytes()
        return data

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""
        return self._upload(key, io.BytesIO(data), len(data), if_absent=if_absent)

    def write_large(self, key: str, write: Callable[[BinaryIO], None], *, if_absent: bool) -> bool:
        """Write the object as `write` puts it into a seekable file; else as `write`."""
        with self._asking("Writing", key):
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._cache) as file:  # /tmp may be memory
                write(file)
                return self._upload(key, file, file.seek(0, os.SEEK_END), if_absent=if_absent)

    def _upload(self, key: str, file: BinaryIO, size: int, *, if_absent: bool) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        generation = 0 if if_absent else None
        with self._asking("Writing", key):
            try:
                self._bucket.blob(key, chunk_size=CHUNK_BYTES).upload_from_file(
                    file, rewind=True, size=size, if_generation_match=generation
                )
            except PreconditionFailed:
                return False
        return True

    def exists(self, key: str) -> bool:
        """Return True if the object exists."""
        with self._asking("Looking for", key):
            return bool(self._bucket.blob(key).exists())

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix, but for the markers `folder/` that Google's console makes."""
        with self._asking("Listing", prefix):
            for blob in self._bucket.list_blobs(prefix=prefix):
                if not blob.name.endswith("/"):
                    yield blob.name

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        with suppress(ObjectNotFound), self._asking("Deleting", key, needs_object=True):
            self._bucket.blob(key).delete()

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""
        with self._asking("Reading", key, needs_object=True):
            blob = self._bucket.blob(key)
            blob.reload()
            path = path_below(self._cache / str(blob.generation), key)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}.part")
                blob.download_to_filename(str(part))
                part.replace(path)
        return path

    def location(self, key: str) -> str:
        """Return the URI of a key without the empty parts that a directory would not have."""
        return posixpath.normpath(f"/{self._bucket.name}/{key}")

    def delete_parts(self, *, before: float) -> int:
        """Remove the local copies that were never finished; return how many files."""
        return delete_parts(self._cache, before=before)
