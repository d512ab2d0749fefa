"""What a picture's bytes tell before any pixel is decoded: its format, its orientation, its structure.

The orientation rule is deliberately plain, because `graph.py` runs the same in TensorFlow: the first EXIF
block of the file, the orientation entry of its first directory, else 1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

MAGIC = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "WEBP": b"RIFF"}
# The bytes that announce EXIF in each container, and how many lie between their start and the TIFF block.
EXIF_MARKS = {"JPEG": (b"Exif\0\0", 6), "PNG": (b"eXIf", 4), "WEBP": (b"EXIF", 8)}
OTHER_IMAGES = (
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\1\0",
    b"8BPS",
    b"\0\0\0\x0cjP",
    b"\0\0\0\x0cJXL",
    b"\xff\x0a",
    b"<svg",
)
_HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


def sniff_format(data: bytes) -> str | None:
    """Return `JPEG`, `PNG`, `GIF` or `WEBP` by the first bytes, None for anything else."""
    for name, magic in MAGIC.items():
        if data.startswith(magic) and (name != "WEBP" or data[8:12] == b"WEBP"):
            return name
    return None


def is_other_image(data: bytes) -> bool:
    """Return True if the bytes start like an image of a format that Graft does not read."""
    return data.startswith(OTHER_IMAGES) or (data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS)


def find_orientation(data: bytes, format: str) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    if format not in EXIF_MARKS:
        return 1
    mark, distance = EXIF_MARKS[format]
    position = data.find(mark)
    if position < 0:
        return 1
    start = position + distance
    if format == "WEBP" and data[start : start + 6] == b"Exif\0\0":
        start += 6
    return _read_orientation(data[start : start + 65536])


def _read_orientation(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    if offset + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, offset)
    for index in range(min(count, (len(tiff) - offset - 2) // 12)):
        tag, kind, number, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * index)
        if (tag, kind, number) == (0x0112, 3, 1):
            return value if 1 <= value <= 8 else 1
    return 1


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and body of each chunk up to and with IEND.

    Raises:
        EOFError: if the file ends before IEND.
        ValueError: if a checksum is wrong.
    """
    position = len(MAGIC["PNG"])
    while True:
        if position + 12 > len(data):
            raise EOFError("the file ends before its IEND chunk")
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            raise EOFError("the file ends inside a chunk")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"the checksum of the {kind!r} chunk is wrong")
        yield kind, data[position + 8 : end - 4]
        if kind == b"IEND":
            return
        position = end


def jpeg_frame_marker(data: bytes) -> int:
    """Return the start-of-frame marker: 0xC0, 0xC1 or 0xC2 for the coding that every decoder knows.

    Raises:
        EOFError: if the file ends before a frame starts, or without an end marker.
        ValueError: if the segments do not follow each other.
    """
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"expected a JPEG marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if data.find(b"\xff\xd9", position) < 0:
                raise EOFError("the file has no end marker")
            return marker
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            position += 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise EOFError("the file ends before its first frame")
