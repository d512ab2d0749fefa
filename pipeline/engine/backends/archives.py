"""Packages that a stranger made: looked through, member by member, before anything unpacks them.

Links are refused altogether: the filters that `tarfile` of Python 3.11 puts on them can be got around.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

MAX_MEMBERS = 50_000
MAX_UNPACKED_BYTES = 2 * 2**30
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)


class UnsafePackage(Exception):
    """A package that is not unpacked; the message says why."""


class _Counted:
    """A stream that ends the reading when it gives too much.

    Args:
        stream: What is unpacked while it is read.
    """

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._seen = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(size)
        self._seen += len(data)
        if self._seen > MAX_UNPACKED_BYTES:
            raise UnsafePackage(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        return data


def check_package(path: Path) -> None:
    """Check that a sdist or a wheel stays within its directory and its limits when it is unpacked.

    Raises:
        UnsafePackage: naming the package, the member and what is wrong with it.
    """
    members = _zip_members if path.suffix in (".whl", ".zip") else _tar_members
    try:
        _check_members(members(path))
    except UnsafePackage as error:
        raise UnsafePackage(f"The package {path.name} is refused: {error}.") from error
    except _DAMAGE as error:
        raise UnsafePackage(f"The package {path.name} is damaged: {error}.") from error


def _check_members(members: Iterable[tuple[str, int]]) -> None:
    total = 0
    for count, (name, size) in enumerate(members, start=1):
        if _leaves(name):
            raise UnsafePackage(f"the member {name[:200]!r} leaves the package's directory")
        total += size
        if count > MAX_MEMBERS or total > MAX_UNPACKED_BYTES:
            raise UnsafePackage(
                f"it has more than {MAX_MEMBERS:,} members, or more than {MAX_UNPACKED_BYTES:,} bytes in them"
            )


def _leaves(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        return True
    return bool(set(name) & set("\\\0")) or ":" in parts[0]  # what another system takes for a path


def _tar_members(path: Path) -> Iterator[tuple[str, int]]:
    with gzip.open(path) as stream, tarfile.open(fileobj=_Counted(stream), mode="r|") as archive:  # type: ignore[call-overload]
        for info in archive:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise UnsafePackage(f"the member {info.name[:200]!r} is a link or a device")
            yield info.name, info.size


def _zip_members(path: Path) -> Iterator[tuple[str, int]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafePackage(f"the member {info.filename[:200]!r} is a link or a device")
            yield info.filename, info.file_size
