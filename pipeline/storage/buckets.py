"""What a bucket is, and the directory that stands for one; `google_bucket` and `s3_bucket` are the others.

Writes are atomic, and "if absent" is real: by `os.link` here, by a precondition of the request there.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

from pipeline.errors import ConfigError, ObjectNotFound, StorageError

PART = re.compile(r"\..+\.part")
MAX_NAME_BYTES, MAX_KEY_BYTES = 255, 3500  # of file systems
_STARTED, _NUMBERS = uuid.uuid4().hex, itertools.count()  # with the process's number, which a fork changes


class Bucket(Protocol):
    """What a bucket must be able to do; keys use `/` and never start with it.

    Args:
        at_once: How many of its objects are asked for at a time where there are many: 1 on a disk.
    """

    at_once: ClassVar[int]

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""

    def write_large(self, key: str, write: Callable[[BinaryIO], None], *, if_absent: bool) -> bool:
        """Write the object as `write` puts it into a seekable file; else as `write`."""

    def exists(self, key: str) -> bool:
        """Return True if the object exists."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix."""

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""

    def location(self, key: str) -> str:
        """Return where a key really lies: the same text for every spelling of one place."""

    def delete_parts(self, *, before: float) -> int:
        """Remove the files of this machine that killed writers left before that time; return how many."""


class DirectoryBucket:
    """A directory that stands for a bucket.

    A symbolic link is followed as long as it stays in the directory. What one leads to outside is not in the
    bucket: it cannot be read, is not listed, and nothing is written through it. A link may be deleted.

    Args:
        root: The directory; it is made when first written to.
        parts: Where objects are written before they get their names, on the same file system; by default
            beside them.
    """

    at_once: ClassVar[int] = 1

    def __init__(self, root: Path, *, parts: Path | None = None) -> None:
        self.root = root
        self._parts = parts

    def _path(self, key: str) -> Path:
        return path_below(self.root, key)

    def _path_inside(self, key: str) -> Path:
        """Return the path of an object that no link moves out of the bucket."""
        path = self._path(key)
        if not _can_be_a_path(key):
            text = (
                f"There is no object {key[:100]!r} under {self.root}: no file can have that name. Expected "
                f"at most {MAX_NAME_BYTES} bytes of UTF-8 between slashes, and no null."
            )
            raise ObjectNotFound(text, key=key)
        if not self._is_inside(path):
            text = f"There is no object {key!r} under {self.root}: a link on the way leads out of the bucket."
            raise ObjectNotFound(text, key=key)
        if _may_never_end(path):
            text = (
                f"{key!r} under {self.root} is a pipe, a socket or a device, which may never end; remove it."
            )
            raise ObjectNotFound(text, key=key)
        return path

    def read(self, key: str) -> bytes:
        """Return the object's bytes."""
        path = self._path_inside(key)
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectNotFound(f"There is no object {key!r} under {self.root}.", key=key) from error

    def write(self, key: str, data: bytes, *, if_absent: bool) -> bool:
        """Write the object; False where it exists and `if_absent` is set."""
        return self._place(key, partial(_write_whole, data), if_absent=if_absent)

    def write_large(self, key: str, write: Callable[[BinaryIO], None], *, if_absent: bool) -> bool:
        """Write the object as `write` puts it into a seekable file; else as `write`."""
        return self._place(key, partial(_write_large, write), if_absent=if_absent)

    def _place(self, key: str, fill: Callable[[int], None], *, if_absent: bool) -> bool:
        path = self._path_inside(key)
        if if_absent and path.exists():
            return False
        part = (
            self._parts or path.parent
        ) / f".{path.name[:80]}.{_STARTED}-{os.getpid()}-{next(_NUMBERS)}.part"
        try:
            file = self._create(part)
            try:
                fill(file)
            finally:
                os.close(file)
            if self._parts:
                path.parent.mkdir(parents=True, exist_ok=True)
            if if_absent:
                return self._link(part, path)
            part.replace(path)
            return True
        except OSError as error:
            raise StorageError(f"Writing {path} failed: {error}", key=key) from error
        finally:
            with suppress(OSError):  # it is not there, or the file system has become read-only
                part.unlink()

    def _link(self, part: Path, path: Path) -> bool:
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        return True

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
        """Return True if the object exists."""
        try:
            return self._path_inside(key).is_file()
        except ObjectNotFound:
            return False

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys with this prefix."""
        folder = self._path(prefix.rpartition("/")[0])
        if not _can_be_a_path(prefix) or not self._is_inside(folder):
            return
        inside = folder.relative_to(self.root).as_posix()
        yield from self._keys_in(str(folder), "" if inside == "." else f"{inside}/", prefix)

    def _keys_in(self, folder: str, inside: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError:  # nothing is there, or it is gone meanwhile
            return
        for entry in entries:
            key = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                if f"{key}/".startswith(prefix):
                    yield from self._keys_in(entry.path, f"{key}/", prefix)
            elif key.startswith(prefix) and not entry.name.endswith(".part") and self._is_listed(entry):
                yield key

    def _is_listed(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():  # which costs nothing: the directory says so
            return True
        return not entry.is_dir() and self._is_inside(Path(entry.path))

    def _is_inside(self, path: Path) -> bool:
        if not _passes_link(self.root, path):  # as nearly always: the rest costs as much as a small write
            return True
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))

    def delete(self, key: str) -> None:
        """Remove the object if it is there."""
        path = self._path(key)
        if not _can_be_a_path(key) or not self._is_inside(path.parent):
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Deleting {path} failed: {error}", key=key) from error
        parent = path.parent
        while parent != self.root and parent.is_relative_to(self.root):
            try:
                parent.rmdir()
            except OSError:
                break
            parent = parent.parent

    def local_path(self, key: str) -> Path:
        """Return a local file with the object's bytes."""
        self._path_inside(key)
        return self._path(key)

    def location(self, key: str) -> str:
        """Return the path of a key with every link followed."""
        return os.path.realpath(self._path(key))

    def delete_parts(self, *, before: float) -> int:
        """Remove what killed writers left before that time; return how many files."""
        return delete_parts(self.root, before=before)


def path_below(directory: Path, key: str) -> Path:
    """Return the path that a key has in a directory; keys of Google's buckets may be any text.

    Raises:
        ConfigError: if it is not in the directory.
    """
    root, path = os.path.normpath(directory), os.path.normpath(os.path.join(directory, key))
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        raise ConfigError(f"The key {key!r} leaves its bucket; expected no '..'.", key=key)
    return Path(path)


def _can_be_a_path(key: str) -> bool:
    """Return True if a file system can name a key: addresses and forms bring any text."""
    try:
        data = os.fsencode(key)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    is_short = len(data) <= MAX_KEY_BYTES and max(map(len, data.split(b"/"))) <= MAX_NAME_BYTES
    return is_short and b"\0" not in data


def _passes_link(root: Path, path: Path) -> bool:
    """Return True if a symbolic link lies on the way from a directory to a path below it."""
    place = os.path.normpath(root)
    for name in os.path.normpath(path)[len(place) :].strip("/").split("/"):
        place = f"{place}/{name}"
        try:
            if stat.S_ISLNK(os.lstat(place).st_mode):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False
    return False


def _may_never_end(path: Path) -> bool:
    """Return True if a path is something else than a file or a directory."""
    try:
        mode = path.stat().st_mode
    except OSError:  # whoever opens it says why
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def delete_parts(root: Path, *, before: float) -> int:
    """Remove hidden `.part` files below a directory that are older than `before`, in seconds since 1970."""
    count = 0
    for directory, _, names in os.walk(root):
        for path in (Path(directory, name) for name in names if PART.fullmatch(name)):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
    return count


def _write_whole(data: bytes, file: int) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


def _write_large(write: Callable[[BinaryIO], None], file: int) -> None:
    with open(file, "wb", closefd=False) as stream:
        write(stream)
    os.fsync(file)
    if hasattr(os, "posix_fadvise"):  # kept in the page cache, a pack pushes out what the machine works with
        with suppress(OSError):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
