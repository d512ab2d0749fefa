"""What an archive is by its first bytes, and the plain bytes of a compressed one."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import BinaryIO, Protocol

MAX_DICTIONARY_BYTES = 128 * 2**20  # of xz, whose header may ask for gigabytes of memory
PIECE_BYTES = 2**16
REPACK = "Pack it anew as zip or tar.gz"
OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": f"a 7z archive. {REPACK}: `7z x FILE -oOUT && zip -r new.zip OUT`.",
    b"Rar!": f"a RAR archive. {REPACK}: `unrar x FILE OUT/ && zip -r new.zip OUT`.",
    b"\x28\xb5\x2f\xfd": f"compressed by zstd. {REPACK}: `zstd -dc FILE | gzip > new.tar.gz`.",
}


class PlainFile(Protocol):
    """What can be read forwards."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""


def open_plain(file: BinaryIO, magic: bytes) -> PlainFile | None:
    """Return a tar's plain bytes, whatever compresses them; None if it is no tar.

    Args:
        file: The archive, at its start.
        magic: Its first 265 bytes.
    """
    if magic[257:262] == b"ustar":
        return file
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return _XzFile(file) if magic.startswith(b"\xfd7zXZ\0") else None


def describe_format(magic: bytes) -> str:
    """Return what a file is that is no archive we read, and what to do about it."""
    start = magic.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return (
            "it is a web page. The address leads to a page that shows the file, or asks to sign in: take the "
            "one that downloads it, let everyone with the link read it, or download it and name the file. "
            "(Dropbox: `dl=1` instead of `dl=0`; GitHub: `raw` instead of `blob`; Hugging Face: `resolve` "
            "instead of `blob`.)"
        )
    for signature, text in OTHER_ARCHIVES.items():
        if magic.startswith(signature):
            return f"it is {text}"
    return f"it starts with {magic[:8]!r}."


class _XzFile:
    """The plain bytes of an xz file, in bounded memory, which `lzma.LZMAFile` cannot promise."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = self._start()

    def read(self, size: int, /) -> bytes:
        data = b""
        while not data:
            if self._decompressor.eof:
                rest = (self._decompressor.unused_data + self._file.read(PIECE_BYTES)).lstrip(b"\0")
                if not rest:
                    return b""
                self._decompressor = self._start()  # xz files may follow each other
            else:
                rest = self._file.read(PIECE_BYTES) if self._decompressor.needs_input else b""
                if not rest and self._decompressor.needs_input:
                    raise EOFError("the xz file ends early")
            try:
                data = self._decompressor.decompress(rest, size)
            except lzma.LZMAError as error:
                raise OSError(f"xz: {error}") from error
        return data

    @staticmethod
    def _start() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY_BYTES)
