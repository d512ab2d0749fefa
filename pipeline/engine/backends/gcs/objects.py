"""The objects of a job's mapped buckets, with generations and the preconditions that name them.

A directory keeps no generations: that of an object is the time its file was last written, in nanoseconds.
Each write leaves a later one. Writers lock the folder while they compare and replace.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from pipeline.engine.backends.gcs.conditions import NO_OBJECT, Conditions, read_number
from pipeline.errors import ConfigError, InvalidArgument, NotFound, ObjectNotFound, PermissionDenied
from pipeline.storage.buckets import DirectoryBucket
from pipeline.types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketAccess:
    """The mapped buckets that a job names, and what it may do there.

    Args:
        directories: The directory of each bucket.
        read: Files, and directories with all that is below them, that may be read.
        write: Directories below which objects may be written and deleted; they may be read too.
        parts: Where objects are written before they get their names, on the file system of `write`.
    """

    directories: Mapping[str, Path]
    read: tuple[Path, ...]
    write: tuple[Path, ...]
    parts: Path

    def to_dict(self) -> JsonObject:
        """Return the access as JSON."""
        return {
            "directories": {name: str(path) for name, path in self.directories.items()},
            "read": [str(path) for path in self.read],
            "write": [str(path) for path in self.write],
            "parts": str(self.parts),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Mapping[str, str] | list[str] | str]) -> Self:
        """Read what `to_dict` wrote."""
        directories = dict(value["directories"]) if isinstance(value["directories"], Mapping) else {}
        return cls(
            directories={name: Path(path) for name, path in directories.items()},
            read=tuple(Path(path) for path in value["read"]),
            write=tuple(Path(path) for path in value["write"]),
            parts=Path(str(value["parts"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as it is now.

    Args:
        bucket: The bucket's name.
        name: Its name in the bucket.
        path: Its file.
        size: In bytes.
        generation: See the module.
    """

    bucket: str
    name: str
    path: Path = field(repr=False)
    size: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of a listing.

    Args:
        objects: The objects.
        prefixes: What the delimiter cut off, each once.
        next_token: Where the next page begins; empty on the last one.
    """

    objects: tuple[StoredObject, ...]
    prefixes: tuple[str, ...]
    next_token: str = ""


class JobObjects:
    """The objects that a job may reach.

    Args:
        access: Its buckets and rights.
    """

    def __init__(self, access: BucketAccess) -> None:
        self._access = access
        self._buckets = {
            name: DirectoryBucket(path, parts=access.parts) for name, path in access.directories.items()
        }

    def check_bucket(self, bucket: str) -> None:
        """Check that the job has a bucket.

        Raises:
            NotFound: if it has not.
        """
        if bucket not in self._buckets:
            raise NotFound(
                f"The bucket {bucket!r} is not one of this job's: {', '.join(sorted(self._buckets))}. A job "
                "has the buckets that its arguments and jobDir name, where a directory stands for them."
            )

    @property
    def bucket_names(self) -> tuple[str, ...]:
        """The names of the job's buckets."""
        return tuple(sorted(self._buckets))

    def find(self, bucket: str, name: str, conditions: Conditions) -> StoredObject:
        """Return an object.

        Raises:
            NotFound: if it does not exist.
            FailedPrecondition: if a condition does not hold.
        """
        path = self._path(bucket, name)
        self._check(path, (*self._access.read, *self._access.write), f"read gs://{bucket}/{name}")
        stored = _stored(bucket, name, path)
        conditions.check(stored.generation if stored else NO_OBJECT)
        if stored is None or conditions.generation not in (None, stored.generation):
            raise NotFound(f"No such object: {bucket}/{name}")
        return stored

    def write(self, bucket: str, name: str, source: BinaryIO, conditions: Conditions) -> StoredObject:
        """Write an object from the rest of a file.

        Raises:
            FailedPrecondition: if a condition does not hold.
        """
        path = self._writable(bucket, name)
        if name.endswith("/"):  # some clients make folders so
            path.mkdir(parents=True, exist_ok=True)
            return StoredObject(
                bucket=bucket, name=name, path=path, size=0, generation=path.stat().st_mtime_ns
            )
        if path.is_dir():
            raise InvalidArgument(f"gs://{bucket}/{name} is a folder here, so that it cannot be an object.")
        with _locked(path.parent):
            before = _generation(path)
            conditions.check(before)

            def fill(file: BinaryIO) -> None:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                moment = max(time.time_ns(), before + 1)
                os.utime(file.fileno(), ns=(moment, moment))

            must_be_new = conditions.generation_match == NO_OBJECT
            if not self._buckets[bucket].write_large(name, fill, if_absent=must_be_new):
                conditions.check(_generation(path))
        return self.find(bucket, name, Conditions())

    def copy(self, source: StoredObject, bucket: str, name: str, conditions: Conditions) -> StoredObject:
        """Copy an object."""
        with source.path.open("rb") as file:
            return self.write(bucket, name, file, conditions)

    def delete(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Delete an object.

        Raises:
            NotFound: if it does not exist.
            FailedPrecondition: if a condition does not hold.
        """
        path = self._writable(bucket, name)
        with _locked(path.parent):
            self.find(bucket, name, conditions)
            self._buckets[bucket].delete(name)

    def list(self, bucket: str, query: Mapping[str, str]) -> Listing:
        """Return a page of the objects that the job may read, in the order of their names."""
        self.check_bucket(bucket)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        limit, token = read_number(query, "maxResults") or 1000, query.get("pageToken", "")
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = ""
        for name in sorted(self._readable_names(bucket, query)):
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            entry = prefix + head + cut if cut else name
            if entry <= token or entry == last:
                continue
            if len(objects) + len(prefixes) == limit:
                return Listing(objects=tuple(objects), prefixes=tuple(prefixes), next_token=last)
            last = entry
            if cut:
                prefixes.append(entry)
            elif stored := _stored(bucket, name, self._path(bucket, name)):
                objects.append(stored)
        return Listing(objects=tuple(objects), prefixes=tuple(prefixes))

    def _readable_names(self, bucket: str, query: Mapping[str, str]) -> Iterator[str]:
        start, end = query.get("startOffset", ""), query.get("endOffset", "")
        roots = (*self._access.read, *self._access.write)
        for name in self._buckets[bucket].keys(query.get("prefix", "")):
            path = self._access.directories[bucket] / name
            if name >= start and (not end or name < end) and _is_below(path, roots):
                yield name

    def _path(self, bucket: str, name: str) -> Path:
        self.check_bucket(bucket)
        try:
            return self._buckets[bucket].local_path(name)
        except ObjectNotFound as error:
            raise NotFound(str(error)) from error
        except ConfigError as error:
            raise InvalidArgument(str(error)) from error

    def _writable(self, bucket: str, name: str) -> Path:
        path = self._path(bucket, name)
        self._check(path, self._access.write, f"write gs://{bucket}/{name}")
        return path

    def _check(self, path: Path, roots: tuple[Path, ...], what: str) -> None:
        if not _is_below(path, roots):
            allowed = ", ".join(self._uri(root) for root in roots) or "nothing, without a jobDir"
            raise PermissionDenied(f"This job may not {what}. It may {what.split()[0]} {allowed}.")

    def _uri(self, path: Path) -> str:
        for name, root in self._access.directories.items():
            if path.is_relative_to(root):
                return f"gs://{name}/{path.relative_to(root).as_posix()}".removesuffix("/.")
        return str(path)


def _is_below(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _stored(bucket: str, name: str, path: Path) -> StoredObject | None:
    if not path.is_file():
        return None
    facts = path.stat()
    return StoredObject(bucket=bucket, name=name, path=path, size=facts.st_size, generation=facts.st_mtime_ns)


def _generation(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else NO_OBJECT


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder against all other requests, also those of other jobs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidArgument(f"{folder} is an object here, so that none can lie below it.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
