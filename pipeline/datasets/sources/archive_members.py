"""The members of a zip or tar that a stranger made.

Nothing is ever extracted: members are read by stream, one at a time, and their names are only looked at. The
limits hold against what is read, not against what the archive says of itself.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, BinaryIO

from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.sources.compression import PlainFile, describe_format, open_plain
from pipeline.datasets.sources.layout import system_part
from pipeline.datasets.sources.member_names import decode_name
from pipeline.errors import BadArchive, FetchRefused

MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 100_000_000
MAX_TOTAL_BYTES = 16 * 2**30
MAX_DIRECTORY_BYTES = 32 * 2**20
MAX_RATIO = 100
FREE_BYTES = 10_000_000  # a ratio is looked at above this: small files may be very even pictures
MAX_HEADER_BYTES = 2**20
PIECE_BYTES = 2**16
_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
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
        raw_name: The bytes of a name beyond ASCII whose encoding the archive does not tell.
    """

    name: str
    proof: str
    read: Callable[[], bytes]
    refused: FetchReason | None = None
    raw_name: bytes = b""


def open_members(
    file: BinaryIO, *, origin: str, encoding: str | None = None, left_out: Counter[str] | None = None
) -> Iterator[Member]:
    """Yield the files of an archive in its own order; folders and system files are left out.

    Args:
        file: A zip, or a tar that may be compressed by gzip, bzip2 or xz.
        origin: Its name, for messages.
        encoding: Of names whose encoding the archive does not tell.
        left_out: Counts the system files by kind.

    Raises:
        BadArchive: if it is none of these, is damaged, or passes a limit as a whole.
    """
    file.seek(0)
    magic = file.read(265)
    file.seek(0)
    if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        members = _zip_members(file, origin, encoding)
    elif (plain := open_plain(file, magic)) is not None:
        members = _tar_members(_Stream(plain, file, origin), origin, encoding)
    else:
        raise BadArchive(f"{origin} is no zip, tar or tar.gz; {describe_format(magic)}", uri=origin)
    seen: set[str] = set()
    try:
        for number, member in enumerate(members):
            if number >= MAX_MEMBERS:
                raise BadArchive(f"{origin} has more than {MAX_MEMBERS:,} members.", uri=origin)
            member = replace(member, name=_strip_here(member.name))
            part = system_part(member.name)
            if part is not None:
                if left_out is not None:
                    left_out[part] += 1
                continue
            yield _judge(member, seen)
    except _DAMAGE as error:
        raise BadArchive(f"{origin} is damaged: {error}.", uri=origin) from error


def _judge(member: Member, seen: set[str]) -> Member:
    reason = member.refused
    if not is_safe_name(member.name):
        reason = FetchReason.BAD_MEMBER_NAME
    elif member.name in seen:
        reason = FetchReason.MEMBER_DOUBLED
    seen.add(member.name)
    return replace(member, refused=reason)


def _strip_here(name: str) -> str:
    """Return a name without the `./` that `tar -czf FILE .` puts before it."""
    while name.startswith("./") and len(name) > 2:
        name = name[2:]
    return name


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


def _zip_members(file: BinaryIO, origin: str, encoding: str | None) -> Iterator[Member]:
    _check_directory(file, origin)
    with zipfile.ZipFile(file) as archive:
        total = 0
        names = [_zip_name(info, encoding, origin) for info in archive.infolist()]
        for info, (name, raw_name) in zip(archive.infolist(), names, strict=True):
            name = _with_slashes(name)
            if info.is_dir() or name.endswith("/"):
                continue
            total += info.file_size
            if total > MAX_TOTAL_BYTES:
                raise BadArchive(f"{origin} holds more than {MAX_TOTAL_BYTES:,} bytes.", uri=origin)
            yield Member(
                name=name,
                proof=f"crc {info.CRC:08x}, {info.file_size} bytes",
                read=lambda info=info: _read_zip(archive, info),  # type: ignore[misc]
                refused=_zip_refusal(info),
                raw_name=raw_name,
            )


def _zip_name(info: zipfile.ZipInfo, encoding: str | None, origin: str) -> tuple[str, bytes]:
    """Return a member's name and, if the archive does not tell its encoding, the bytes."""
    name = info.orig_filename
    if name.isascii() or info.flag_bits & _UTF8_FLAG:
        return name, b""
    raw_name = name.encode("cp437")
    declared = _unicode_path(info.extra, raw_name)
    if declared is not None:
        return declared, b""
    return (name if encoding is None else decode_name(raw_name, encoding, origin)), raw_name


def _unicode_path(extra: bytes, raw_name: bytes) -> str | None:
    """Return the name in Info-ZIP's extra field for UTF-8, if it belongs to the name."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and body[:1] == b"\x01" and len(body) > 5:
            is_current = struct.unpack_from("<I", body, 1)[0] == zlib.crc32(raw_name)
            return body[5:].decode("utf-8", "replace") if is_current else None
    return None


def _with_slashes(name: str) -> str:
    """Return a name with slashes between folders: some systems write backslashes, in some names or in all."""
    return name if "/" in name else name.replace("\\", "/")


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


def _tar_members(stream: _Stream, origin: str, encoding: str | None) -> Iterator[Member]:
    with tarfile.TarFile.taropen("", "r", stream, encoding="utf-8") as archive:  # type: ignore[arg-type]
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # a list of all members so far is of no use here
            if info.isdir():
                continue
            name, raw_name = _tar_name(info, encoding, origin)
            yield Member(
                name=name,
                proof="",
                read=lambda info=info: _read_tar(archive, info),  # type: ignore[misc]
                refused=_tar_refusal(info),
                raw_name=raw_name,
            )


def _tar_name(info: tarfile.TarInfo, encoding: str | None, origin: str) -> tuple[str, bytes]:
    """Return a member's name and, if it is not UTF-8, the bytes."""
    name = info.name
    is_utf8 = not any(0xDC80 <= ord(character) < 0xDD00 for character in name)
    if name.isascii() or "path" in info.pax_headers or (is_utf8 and encoding is None):
        return name, b""
    raw_name = name.encode("utf-8", "surrogateescape")
    return (name if encoding is None else decode_name(raw_name, encoding, origin)), raw_name


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

    def __init__(self, source: PlainFile, packed: BinaryIO, origin: str) -> None:
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
