"""Bytes in and out of a URI: `gs://bucket/key`, `file://`, or a path.

A bucket is a directory where one is mapped (`GRAFT_BUCKETS=demo=/path,...`; the bucket `graft` is
`$GRAFT_HOME/buckets/graft` unless mapped otherwise), else Google Cloud Storage. Writes are atomic, and
`create_bytes` is a real create-if-absent on both: `os.link` on a directory, a generation precondition on GCS.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError, ObjectNotFound, StorageError, UnknownBucket

WORKSPACE_BUCKET = "graft"
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


def parse_buckets(text: str) -> dict[str, Path]:
    """Read `GRAFT_BUCKETS`: `name=/directory` pairs, separated by commas.

    Raises:
        ConfigError: if a part is not `name=/directory`.
    """
    buckets = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, path = part.partition("=")
        if not (name and equals and path):
            raise ConfigError(
                f"GRAFT_BUCKETS wants name=/directory pairs separated by commas. Received: {part!r}"
            )
        buckets[name.strip()] = Path(path.strip()).expanduser().absolute()
    return buckets


class Storage:
    """Objects by URI.

    Args:
        buckets: Bucket names that directories stand for.
        cache: Where copies of remote objects are kept for `local_path`.
    """

    def __init__(self, buckets: Mapping[str, Path], *, cache: Path | None = None) -> None:
        self._cache = cache or Path(tempfile.gettempdir()) / "graft-cache"
        self.directories = dict(buckets)
        self._buckets: dict[str, Bucket] = {name: DirectoryBucket(path) for name, path in buckets.items()}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Storage:
        """Make the storage that `GRAFT_HOME` and `GRAFT_BUCKETS` describe."""
        environ = os.environ if environ is None else environ
        home = Path(environ.get("GRAFT_HOME") or ".graft").expanduser().absolute()
        buckets = {WORKSPACE_BUCKET: home / "buckets" / WORKSPACE_BUCKET}
        buckets.update(parse_buckets(environ.get("GRAFT_BUCKETS", "")))
        return cls(buckets, cache=home / "cache")

    def _find(self, uri: str) -> tuple[Bucket, str]:
        parts = urlsplit(uri)
        if parts.scheme == "gs":
            name, key = parts.netloc, uri[len(f"gs://{parts.netloc}") :].lstrip("/")
            if not name:
                raise ConfigError(f"A bucket URI is gs://bucket/key. Received: {uri!r}")
            if name not in self._buckets:
                self._buckets[name] = GoogleBucket(name, self._cache)
            return self._buckets[name], key
        if parts.scheme not in ("", "file"):
            raise ConfigError(f"Storage reads gs://, file:// and paths. Received: {uri!r}")
        path = Path(unquote(parts.path) if parts.scheme == "file" else uri).expanduser().absolute()
        return DirectoryBucket(Path(path.anchor)), path.relative_to(path.anchor).as_posix()

    def read_bytes(self, uri: str) -> bytes:
        """Return the object's bytes.

        Raises:
            ObjectNotFound: if there is none.
        """
        bucket, key = self._find(uri)
        return bucket.read(key)

    def read_json(self, uri: str) -> Any:
        """Return the object's bytes as JSON."""
        return json.loads(self.read_bytes(uri))

    def write_bytes(self, uri: str, data: bytes) -> None:
        """Write the object whole; readers see the old bytes or the new ones, never a part."""
        bucket, key = self._find(uri)
        bucket.write(key, data, if_absent=False)

    def write_json(self, uri: str, value: Any) -> None:
        """Write a JSON object: sorted keys, two spaces, UTF-8."""
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        self.write_bytes(uri, text.encode() + b"\n")

    def create_bytes(self, uri: str, data: bytes) -> bool:
        """Write the object unless it exists; of several racers exactly one gets True."""
        bucket, key = self._find(uri)
        return bucket.write(key, data, if_absent=True)

    def exists(self, uri: str) -> bool:
        """Say whether an object has exactly this URI."""
        bucket, key = self._find(uri)
        return bucket.exists(key)

    def list_uris(self, prefix: str) -> list[str]:
        """Return the URIs under a prefix, at any depth, sorted."""
        bucket, key = self._find(prefix)
        if prefix.endswith("/") and key and not key.endswith("/"):
            key += "/"
        base = prefix[: len(prefix) - len(key)] if key else prefix.rstrip("/") + "/"
        return sorted(base + found for found in bucket.keys(key))

    def delete(self, uri: str) -> None:
        """Remove the object if it is there."""
        bucket, key = self._find(uri)
        bucket.delete(key)

    def delete_tree(self, prefix: str) -> None:
        """Remove every object under a prefix."""
        for uri in self.list_uris(prefix.rstrip("/") + "/"):
            self.delete(uri)

    def local_path(self, uri: str) -> Path:
        """Return a local file with the object's bytes, to be read only."""
        bucket, key = self._find(uri)
        path = bucket.local_path(key)
        if not path.exists():
            raise ObjectNotFound(f"There is no object {uri}.", uri=uri)
        return path

    def scratch_path(self, uri: str) -> Path:
        """Return a path of this machine for work in progress: beside the objects, where they are files.

        What is there is no object. In a remote bucket it is a cache, which another machine does not see.
        """
        parts = urlsplit(uri)
        root = self.directories.get(parts.netloc) or self._cache / "scratch" / parts.netloc
        return root / uri[len(f"gs://{parts.netloc}") :].strip("/")

    def download_tree(self, prefix: str, directory: Path, *, may_link: bool = False) -> None:
        """Copy every object under a prefix into a directory.

        Args:
            prefix: Of the objects.
            directory: Where to.
            may_link: Whether the files may be hard links to the objects: nobody may ever write into them.
        """
        prefix = prefix.rstrip("/") + "/"
        found = self.list_uris(prefix)
        if not found:
            raise ObjectNotFound(f"There is nothing under {prefix}.", uri=prefix)
        for uri in found:
            target = directory / uri[len(prefix) :]
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (may_link and _link(self.local_path(uri), target)):
                shutil.copyfile(self.local_path(uri), target)

    def upload_tree(self, directory: Path, prefix: str) -> None:
        """Copy every file of a directory under a prefix."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                self.write_bytes(
                    f"{prefix.rstrip('/')}/{path.relative_to(directory).as_posix()}", path.read_bytes()
                )

    def copy_tree(self, source: str, target: str) -> None:
        """Copy every object under one prefix to another."""
        source = source.rstrip("/") + "/"
        found = self.list_uris(source)
        if not found:
            raise ObjectNotFound(f"There is nothing under {source}.", uri=source)
        for uri in found:
            self.write_bytes(f"{target.rstrip('/')}/{uri[len(source) :]}", self.read_bytes(uri))


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one that has no links
        return False
    return True
