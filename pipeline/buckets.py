"""Buckets: a directory, or one of Google Cloud Storage.

Writes are atomic, and "if absent" is real on both: `os.link` in a directory, a generation precondition there.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pipeline.errors import ConfigError, ObjectNotFound, StorageError, UnknownBucket

_STARTED, _NUMBERS = uuid.uuid4().hex, itertools.count()  # with the process's number, which a fork changes


class Bucket(Protocol):
    """What a bucket must be able to do; keys use `/` and never start with it."""

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""

    def exists(self, key: str) -> bool:
        """Say whether the object is there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix."""

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""


class DirectoryBucket:
    """A directory that stands for a bucket.

    Args:
        root: The directory; it is made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.root / key))
        if not path.is_relative_to(self.root):
            raise ConfigError(f"The key {key!r} leaves its bucket; expected no '..'.", key=key)
        return path

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectNotFound(f"There is no object {key!r} under {self.root}.", key=key) from error

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""
        path = self._path(key)
        if if_absent and path.exists():
            return False
        partial = path.parent / f".{path.name[:80]}.{_STARTED}-{os.getpid()}-{next(_NUMBERS)}.part"
        try:
            self._write_partial(partial, data)
            if if_absent:
                return self._link(partial, path)
            partial.replace(path)
            return True
        except OSError as error:
            raise StorageError(f"Writing {path} failed: {error}", key=key) from error
        finally:
            with suppress(FileNotFoundError, NotADirectoryError):
                partial.unlink()

    def _link(self, partial: Path, path: Path) -> bool:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        return True

    def _write_partial(self, partial: Path, data: bytes) -> None:
        file = self._create(partial)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)

    def _create(self, path: Path) -> int:
        for tries_left in (2, 1, 0):
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileNotFoundError:  # there is no folder yet, or a delete has just removed it as empty
                if not tries_left:
                    raise
                path.parent.mkdir(parents=True, exist_ok=True)
        raise AssertionError("the last try returns or raises")

    def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        return self._path(key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix."""
        folder = self._path(prefix.rpartition("/")[0])
        for directory, _, names in os.walk(folder):
            inside = Path(directory).relative_to(self.root).as_posix()
            for name in names:
                key = name if inside == "." else f"{inside}/{name}"
                if key.startswith(prefix) and not name.endswith(".part"):
                    yield key

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        path = self._path(key)
        path.unlink(missing_ok=True)
        parent = path.parent
        while parent != self.root and parent.is_relative_to(self.root):
            try:
                parent.rmdir()
            except OSError:
                break
            parent = parent.parent

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""
        return self._path(key)


class GoogleBucket:
    """A bucket of Google Cloud Storage; the client is made on first use.

    Args:
        name: The bucket's name.
        cache: Directory for `local_path` copies, one file per object generation.
    """

    def __init__(self, name: str, cache: Path) -> None:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage

        try:
            self._bucket = storage.Client().bucket(name)
        except (GoogleAuthError, OSError) as error:
            raise UnknownBucket(
                f"The bucket {name!r} is not mapped to a directory, and Google Cloud Storage says: {error}. "
                f"Map it with GRAFT_BUCKETS={name}=/some/directory, or set GOOGLE_APPLICATION_CREDENTIALS.",
                bucket=name,
            ) from error
        self._cache = cache / name

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        from google.api_core.exceptions import GoogleAPIError, NotFound

        try:
            data: bytes = self._bucket.blob(key).download_as_bytes()
        except NotFound as error:
            raise ObjectNotFound(f"There is no object gs://{self._bucket.name}/{key}.", key=key) from error
        except GoogleAPIError as error:
            raise StorageError(f"Reading gs://{self._bucket.name}/{key} failed: {error}", key=key) from error
        return data

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""
        from google.api_core.exceptions import GoogleAPIError, PreconditionFailed

        try:
            self._bucket.blob(key).upload_from_string(data, if_generation_match=0 if if_absent else None)
        except PreconditionFailed:
            return False
        except GoogleAPIError as error:
            raise StorageError(f"Writing gs://{self._bucket.name}/{key} failed: {error}", key=key) from error
        return True

    def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        return bool(self._bucket.blob(key).exists())

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix."""
        for blob in self._bucket.list_blobs(prefix=prefix):
            yield blob.name

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        from google.api_core.exceptions import NotFound

        try:
            self._bucket.blob(key).delete()
        except NotFound:
            return

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""
        blob = self._bucket.get_blob(key)
        if blob is None:
            raise ObjectNotFound(f"There is no object gs://{self._bucket.name}/{key}.", key=key)
        path = self._cache / str(blob.generation) / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
            blob.download_to_filename(str(partial))
            partial.replace(path)
        return path
