"""Bytes in and out of a URI: `gs://bucket/key`, `file://`, or a path.

A bucket is a directory, or in an S3-compatible store, where it is mapped (`GRAFT_BUCKETS=demo=/path,
more=s3://bucket/prefix`; the bucket `graft` is `$GRAFT_HOME/buckets/graft` unless mapped otherwise), else
Google Cloud Storage's.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from pipeline.errors import ConfigError, ObjectNotFound, StorageError
from pipeline.storage.addresses import BucketAddress, S3Address, parse_buckets
from pipeline.storage.buckets import Bucket, DirectoryBucket, path_below
from pipeline.storage.google_bucket import GoogleBucket
from pipeline.storage.s3_bucket import S3Bucket

WORKSPACE_BUCKET = "graft"
PAGE = 1000  # objects in one answer to a listing

Item = TypeVar("Item")
Result = TypeVar("Result")


class Storage:
    """Objects by URI.

    Args:
        buckets: What bucket names stand for: directories, or places in S3-compatible stores.
        cache: Where copies of remote objects are kept for `local_path`.
        parts: Where objects of mapped buckets are written first; by default beside their place.
    """

    def __init__(
        self, buckets: Mapping[str, BucketAddress], *, cache: Path | None = None, parts: Path | None = None
    ) -> None:
        self._cache = cache or Path(tempfile.gettempdir()) / "graft-cache"
        self.addresses = dict(buckets)
        self.directories = {name: path for name, path in buckets.items() if isinstance(path, Path)}
        self._buckets: dict[str, Bucket] = {
            name: DirectoryBucket(path, parts=parts) for name, path in self.directories.items()
        }

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Storage:
        """Make the storage that `GRAFT_HOME` and `GRAFT_BUCKETS` describe.

        The engine sets `GRAFT_PART_DIRECTORY` for jobs, which may not write beside every object.
        """
        environ = os.environ if environ is None else environ
        home = Path(environ.get("GRAFT_HOME") or ".graft").expanduser().absolute()
        buckets: dict[str, BucketAddress] = {WORKSPACE_BUCKET: home / "buckets" / WORKSPACE_BUCKET}
        buckets.update(parse_buckets(environ.get("GRAFT_BUCKETS", "")))
        parts = environ.get("GRAFT_PART_DIRECTORY")
        return cls(buckets, cache=home / "cache", parts=Path(parts) if parts else None)

    def _find(self, uri: str) -> tuple[Bucket, str]:
        parts = urlsplit(uri)
        if parts.scheme == "gs":
            name, key = parts.netloc, uri[len(f"gs://{parts.netloc}") :].lstrip("/")
            if not name:
                raise ConfigError(f"A bucket URI is gs://bucket/key. Received: {uri!r}")
            if name not in self._buckets:
                self._buckets[name] = self._open(name)
            return self._buckets[name], key
        if parts.scheme not in ("", "file"):
            hint = f" Map a bucket of S3 to a name: GRAFT_BUCKETS=NAME={uri}" if parts.scheme == "s3" else ""
            raise ConfigError(f"Storage reads gs://, file:// and paths. Received: {uri!r}.{hint}")
        path = Path(unquote(parts.path) if parts.scheme == "file" else uri).expanduser().absolute()
        return DirectoryBucket(Path(path.anchor)), path.relative_to(path.anchor).as_posix()

    def _open(self, name: str) -> Bucket:
        address = self.addresses.get(name)
        if isinstance(address, S3Address):
            return S3Bucket(name, address, self._cache)
        return GoogleBucket(name, self._cache)

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

    def write_large(self, uri: str, write: Callable[[BinaryIO], None], *, if_absent: bool = False) -> bool:
        """Write a large object without a copy of it in memory, or in the system's cache of files.

        Args:
            uri: Of the object; readers see the old bytes or the new ones, never a part.
            write: Puts the bytes into a seekable file.
            if_absent: Whether an object that exists stays.

        Returns:
            False where it exists and was to stay.
        """
        bucket, key = self._find(uri)
        return bucket.write_large(key, write, if_absent=if_absent)

    def exists(self, uri: str) -> bool:
        """Return True if an object has exactly this URI."""
        bucket, key = self._find(uri)
        return bucket.exists(key)

    def existing(self, uris: Collection[str]) -> set[str]:
        """Return those of some URIs that are objects.

        Where each look is a request, their folders are listed instead, a thousand objects a request, as long
        as that takes less time than the looks.
        """
        there: set[str] = set()
        for folder, group in groupby(sorted(set(uris)), key=lambda uri: f"{uri.rpartition('/')[0]}/"):
            there |= self._existing(folder, set(group))
        return there

    def _existing(self, folder: str, uris: set[str]) -> set[str]:
        bucket, key = self._find(folder)
        if bucket.at_once == 1:
            return {uri for uri in uris if self.exists(uri)}
        base = folder[: len(folder) - len(key)]
        limit = len(uris) // bucket.at_once * PAGE  # what is listed in the time of the looks
        listed = {base + name for name in islice(bucket.keys(key), limit)} if limit else set()
        there = uris & listed
        if limit and len(listed) < limit:
            return there
        rest = sorted(uris - there)
        looks = self._each(bucket, self.exists, rest)
        return there | {uri for uri, is_there in zip(rest, looks, strict=True) if is_there}

    def list_uris(self, prefix: str) -> list[str]:
        """Return the URIs under a prefix, at any depth, sorted."""
        bucket, key = self._find(prefix)
        if prefix.endswith("/") and key and not key.endswith("/"):
            key += "/"
        base = prefix[: len(prefix) - len(key)] if key else prefix.rstrip("/") + "/"
        return sorted(base + name for name in bucket.keys(key))

    def overlap(self, first: str, second: str) -> bool:
        """Return True if two URIs are one place, or one lies in the other, however they are spelled.

        Links are followed, `//` and `/.` mean what they mean to a directory, and case does not count: there
        are file systems where it does not.
        """
        locations = [bucket.location(key) for bucket, key in map(self._find, (first, second))]
        one, other = (f"{location.casefold().rstrip('/')}/" for location in locations)
        return one.startswith(other) or other.startswith(one)

    def delete(self, uri: str) -> None:
        """Remove the object if it is there."""
        bucket, key = self._find(uri)
        bucket.delete(key)

    def delete_tree(self, prefix: str) -> None:
        """Remove every object under a prefix."""
        uris = self.list_uris(prefix.rstrip("/") + "/")
        self._each(self._find(prefix)[0], self.delete, uris)

    def _each(self, bucket: Bucket, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do something to each of some items, as many at a time as a bucket takes."""
        if bucket.at_once == 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(bucket.at_once) as pool:
            return list(pool.map(work, items))

    def delete_parts(self, uri: str, *, before: float) -> int:
        """Remove what killed writers to a URI's bucket have left on this machine.

        Args:
            uri: Any in the bucket.
            before: What is younger stays, in seconds since 1970: its writer may be alive.

        Returns:
            How many files.
        """
        return self._find(uri)[0].delete_parts(before=before)

    def local_path(self, uri: str) -> Path:
        """Return a local file with the object's bytes, to be read only."""
        bucket, key = self._find(uri)
        path = bucket.local_path(key)
        if not path.exists():
            raise ObjectNotFound(f"There is no object {uri}.", uri=uri)
        return path

    def is_directory(self, uri: str) -> bool:
        """Return True if the URI's bucket is a directory of this machine, or the URI is a path."""
        parts = urlsplit(uri)
        return parts.scheme != "gs" or parts.netloc in self.directories

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

        Raises:
            ObjectNotFound: if there is none.
            StorageError: if two objects need the same path, as `a`, `a/b` and `a//b` do.
        """
        prefix = prefix.rstrip("/") + "/"
        uris = self.list_uris(prefix)
        if not uris:
            raise ObjectNotFound(f"There is nothing under {prefix}.", uri=prefix)

        def fetch(place: tuple[Path, str]) -> None:
            target, uri = place
            target.parent.mkdir(parents=True, exist_ok=True)
            path = self.local_path(uri)
            if not (may_link and _link(path, target)):
                shutil.copyfile(path, target)

        self._each(self._find(prefix)[0], fetch, _paths_of(uris, prefix, directory).items())

    def upload_tree(self, directory: Path, prefix: str) -> None:
        """Copy every file of a directory under a prefix."""

        def send(path: Path) -> None:
            uri = f"{prefix.rstrip('/')}/{path.relative_to(directory).as_posix()}"
            self.write_bytes(uri, path.read_bytes())

        paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        self._each(self._find(prefix)[0], send, paths)

    def copy_tree(self, source: str, target: str) -> None:
        """Copy every object under one prefix to another."""
        source = source.rstrip("/") + "/"
        uris = self.list_uris(source)
        if not uris:
            raise ObjectNotFound(f"There is nothing under {source}.", uri=source)

        def copy(uri: str) -> None:
            self.copy(uri, f"{target.rstrip('/')}/{uri[len(source) :]}")

        self._each(self._find(source)[0], copy, uris)

    def copy(self, source: str, target: str) -> None:
        """Copy one object, in pieces: models are large."""
        with self.local_path(source).open("rb") as file:
            self.write_large(target, partial(shutil.copyfileobj, file))


def _paths_of(uris: Sequence[str], prefix: str, directory: Path) -> dict[Path, str]:
    """Return the files that the objects under a prefix become in a directory."""
    objects: dict[Path, str] = {}
    for uri in uris:
        path = path_below(directory, uri[len(prefix) :])
        if (other := objects.setdefault(path, uri)) != uri:
            raise StorageError(f"{other} and {uri} are one path in a directory. Rename one of them.", uri=uri)
    for path, uri in objects.items():
        if file := next((parent for parent in path.parents if parent in objects), None):
            raise StorageError(
                f"{objects[file]} and {uri} cannot both be in a directory: the first one is a file. "
                "Rename one of them.",
                uri=uri,
            )
    return objects


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one that has no links
        return False
    return True
