"""The members of a zip or tar that a stranger made.

Nothing is ever extracted: members are read by stream, one at a time, and their names are only looked at. The
limits hold against what is read, not against what the archive says of itself.
"""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO

from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.sources.layout import system_part
from pipeline.errors import BadArchive, FetchRefused

MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 100_000_000
MAX_TOTAL_BYTES = 16 * 2**30
MAX_DIRECTORY_BYTES = 32 * 2**20
MAX_RATIO = 100
FREE_BYTES = 10_000_000  # a ratio is looked at above this: small files may be very even pictures
MAX_HEADER_BYTES = 2**20
PIECE_BYTES = 2**16
OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive.

    Args:
        name: Its path in the archive, never one on this machine.
        proof: Changes with its content, where the archive knows.
        read: Reads its bytes; before the next member is asked for.
        refused: Why it is not read.
    """

    name: str
    proof: str
    read: Callable[[], bytes]
    refused: FetchReason | None = None


def open_members(file: BinaryIO, *, origin: str, left_out: Counter[str] | None = None) -> Iterator[Member]:
    """Yield the files of an archive in its own order; folders and system files are left out.

    Args:
        file: A zip, tar or tar.gz.
        origin: Its name, for messages.
        left_out: Counts the system files by kind.

    Raises:
        BadArchive: if it is none of these, is damaged, or passes a limit as a whole.
    """
    file.seek(0)
    magic = file.read(265)
    file.seek(0)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        members = _zip_members(file, origin)
    elif magic.startswith(b"\x1f\x8b"):
        members = _tar_members(_Stream(gzip.GzipFile(fileobj=file), file, origin), origin)
    elif magic[257:262] == b"ustar":
        members = _tar_members(_Stream(file, file, origin), origin)
    else:
        raise BadArchive(f"{origin} is no zip, tar or tar.gz; {_describe(magic)}", uri=origin)
    seen: set[str] = set()
    try:
        for number, member in enumerate(members):
            if number >= MAX_MEMBERS:
                raise BadArchive(f"{origin} has more than {MAX_MEMBERS:,} members.", uri=origin)
            part = system_part(member.name)
            if part is not None:
                if left_out is not None:
                    left_out[part] += 1
                continue
            yield _judge(member, seen)
    except _DAMAGE as error:
        raise BadArchive(f"{origin} is damaged: {error}.", uri=origin) from error


def _describe(magic: bytes) -> str:
    """Return what a file is that is no archive we read, and what to do about it."""
    start = magic.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return (
            "it is a web page. The address leads to a page that shows the file: take the one that downloads "
            "it (Dropbox: `dl=1` instead of `dl=0`; GitHub: `raw` instead of `blob`; Hugging Face: `resolve` "
            "instead of `blob`), or download it and name the file."
        )
    for signature, name in OTHER_ARCHIVES.items():
        if magic.startswith(signature):
            return f"it is {name}. Pack it anew as zip or tar.gz."
    return f"it starts with {magic[:8]!r}."


def _judge(member: Member, seen: set[str]) -> Member:
    reason = member.refused
    if not is_safe_name(member.name):
        reason = FetchReason.BAD_MEMBER_NAME
    elif member.name in seen:
        reason = FetchReason.MEMBER_DOUBLED
    seen.add(member.name)
    return Member(name=member.name, proof=member.proof, read=member.read, refused=reason)


def is_safe_name(name: str) -> bool:
    """Return True if a member's name is a plain relative path."""
    parts = name.split("/")
    return not (
        name.startswith("/")
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or any(part in ("", ".", "..") for part in parts)
        or any(ord(character) < 32 or ord(character) == 127 for character in name)
        or any(0xD800 <= ord(character) < 0xE000 for character in name)
        or len(name) > 1024
    )


def _refusal(reason: FetchReason, name: str) -> FetchRefused:
    return FetchRefused(f"the member {name[:100]!r} is refused: {reason}.", reason=reason)


def _zip_members(file: BinaryIO, origin: str) -> Iterator[Member]:
    _check_directory(file, origin)
    with zipfile.ZipFile(file) as archive:
        total = 0
        separator = _separator(info.orig_filename for info in archive.infolist())
        for info in archive.infolist():
            if info.is_dir() or info.orig_filename.endswith(separator):
                continue
            total += info.file_size
            if total > MAX_TOTAL_BYTES:
                raise BadArchive(f"{origin} holds more than {MAX_TOTAL_BYTES:,} bytes.", uri=origin)
            yield Member(
                name=info.orig_filename.replace(separator, "/"),
                proof=f"crc {info.CRC:08x}, {info.file_size} bytes",
                read=lambda info=info: _read_zip(archive, info),  # type: ignore[misc]
                refused=_zip_refusal(info),
            )


def _separator(names: Iterable[str]) -> str:
    """Return what an archive puts between folders: some systems write a backslash throughout."""
    listed = list(names)
    return "\\" if any("\\" in name for name in listed) and not any("/" in name for name in listed) else "/"


def _check_directory(file: BinaryIO, origin: str) -> None:
    """Look at the size of the list of members before it is read."""
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    except OSError:
        end = None
    if not end:
        raise BadArchive(f"{origin} is a zip that ends early.", uri=origin)
    if end[5] > MAX_DIRECTORY_BYTES or end[4] > MAX_MEMBERS:
        raise BadArchive(f"{origin} has more than {MAX_MEMBERS:,} members.", uri=origin)


def _zip_refusal(info: zipfile.ZipInfo) -> FetchReason | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return FetchReason.MEMBER_IS_LINK
    if kind not in (0, stat.S_IFREG):
        return FetchReason.MEMBER_IS_DEVICE
    if info.flag_bits & 0x1:
        return FetchReason.MEMBER_ENCRYPTED
    if info.file_size > MAX_MEMBER_BYTES:
        return FetchReason.MEMBER_TOO_LARGE
    if info.file_size > FREE_BYTES and info.file_size > MAX_RATIO * max(1, info.compress_size):
        return FetchReason.MEMBER_RATIO
    return None


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as member:
            return _read_capped(member, info.filename, info.compress_size)
    except _DAMAGE as error:
        raise _refusal(FetchReason.MEMBER_DAMAGED, info.filename) from error
    except RuntimeError as error:
        raise _refusal(FetchReason.MEMBER_ENCRYPTED, info.filename) from error


def _read_capped(member: IO[bytes], name: str, packed_bytes: int) -> bytes:
    data = bytearray()
    while piece := member.read(PIECE_BYTES):
        data += piece
        if len(data) > MAX_MEMBER_BYTES:
            raise _refusal(FetchReason.MEMBER_TOO_LARGE, name)
        if len(data) > FREE_BYTES and len(data) > MAX_RATIO * max(1, packed_bytes):
            raise _refusal(FetchReason.MEMBER_RATIO, name)
    return bytes(data)


def _tar_members(stream: _Stream, origin: str) -> Iterator[Member]:
    with tarfile.TarFile.taropen("", "r", stream) as archive:  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # a list of all members so far is of no use here
            if info.isdir():
                continue
            yield Member(
                name=info.name,
                proof="",
                read=lambda info=info: _read_tar(archive, info),  # type: ignore[misc]
                refused=_tar_refusal(info),
            )


def _tar_refusal(info: tarfile.TarInfo) -> FetchReason | None:
    if info.issym() or info.islnk():
        return FetchReason.MEMBER_IS_LINK
    if not info.isreg():
        return FetchReason.MEMBER_IS_DEVICE
    if info.issparse():
        return FetchReason.MEMBER_RATIO
    return FetchReason.MEMBER_TOO_LARGE if info.size > MAX_MEMBER_BYTES else None


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(info)
    if member is None:
        raise _refusal(FetchReason.MEMBER_IS_LINK, info.name)
    try:
        data = _read_capped(member, info.name, info.size)
    except _DAMAGE as error:
        raise _refusal(FetchReason.MEMBER_DAMAGED, info.name) from error
    if len(data) != info.size:
        raise _refusal(FetchReason.MEMBER_DAMAGED, info.name)
    return data


class _Stream:
    """What `tarfile` reads from: forwards only, in bounded pieces, and no bomb."""

    def __init__(self, source: BinaryIO | gzip.GzipFile, packed: BinaryIO, origin: str) -> None:
        self._source = source
        self._packed = packed
        self._origin = origin
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise BadArchive(f"{self._origin} is a tar whose members are not in order.", uri=self._origin)
        while self._position < position:
            if not self.read(min(PIECE_BYTES, position - self._position)):
                break
        return self._position

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise BadArchive(f"{self._origin} is a tar with a header of {size} bytes.", uri=self._origin)
        data = self._source.read(size)
        self._position += len(data)
        packed = self._packed.tell()
        is_bomb = self._position > 64 * 2**20 and self._position > MAX_RATIO * max(1, packed)
        if is_bomb or self._position > MAX_TOTAL_BYTES:
            raise BadArchive(
                f"{self._origin} unpacks to more than {MAX_RATIO} times its size, or {MAX_TOTAL_BYTES:,} "
                "bytes.",
                uri=self._origin,
            )
        return data

    def close(self) -> None:
        return
