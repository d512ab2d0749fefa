from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from pipeline.pixels.header import EXIF_MARKS, find_orientation, jpeg_frame_marker, png_chunks, sniff_format


def tiff(value: int, order: str = "<", *, tag: int = 0x0112, kind: int = 3, before: int = 0) -> bytes:
    entries = [struct.pack(order + "HHIHH", 0x010F, 2, 1, 65, 0)] * before
    entries.append(struct.pack(order + "HHIHH", tag, kind, 1, value, 0))
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries) + b"\0" * 4


def jpeg(block: bytes) -> bytes:
    return b"\xff\xd8\xff\xe1\0\0Exif\0\0" + block


class TestOrientation:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("value", range(1, 9))
    def test_it_is_read_in_both_byte_orders(self, order: str, value: int) -> None:
        assert find_orientation(jpeg(tiff(value, order, before=3)), "JPEG") == value

    def test_it_is_read_from_png_and_webp(self) -> None:
        assert find_orientation(b"....eXIf" + tiff(6), "PNG") == 6
        assert find_orientation(b"RIFF....WEBPEXIF\x1e\0\0\0" + tiff(8), "WEBP") == 8
        assert find_orientation(b"RIFF....WEBPEXIF\x24\0\0\0Exif\0\0" + tiff(8), "WEBP") == 8

    @pytest.mark.parametrize(
        "data",
        [b"", jpeg(b""), jpeg(tiff(0)), jpeg(tiff(9)), jpeg(tiff(6, tag=0x0113)), jpeg(tiff(6, kind=2))]
        + [jpeg(b"XX*\0" + tiff(6)[4:]), jpeg(tiff(6)[:15]), jpeg(b"II*\0\xff\xff\xff\xff\0\0")],
    )
    def test_nonsense_is_upright(self, data: bytes) -> None:
        assert find_orientation(data, "JPEG") == 1

    def test_gif_has_none(self) -> None:
        assert find_orientation(b"GIF89aExif\0\0" + tiff(6), "GIF") == 1

    @given(data=st.binary(max_size=60), format=st.sampled_from([*EXIF_MARKS, "GIF"]))
    def test_any_bytes_give_one_to_eight(self, data: bytes, format: str) -> None:
        mark = EXIF_MARKS.get(format, (b"", 0))[0]
        assert 1 <= find_orientation(mark + b"II*\0" + data, format) <= 8


class TestStructure:
    @pytest.mark.parametrize(
        ("start", "format"),
        [
            (b"\xff\xd8\xff\xdb", "JPEG"),
            (b"GIF89a", "GIF"),
            (b"RIFF\0\0\0\0WEBP", "WEBP"),
            (b"RIFF\0\0\0\0WAVE", None),
        ],
    )
    def test_format_is_told_by_the_first_bytes(self, start: bytes, format: str | None) -> None:
        assert sniff_format(start + b"rest") == format

    def test_frame_marker_is_found_behind_other_segments(self) -> None:
        data = b"\xff\xd8\xff\xe0\0\4ab\xff\xff\xdb\0\3c\xff\xc2\0\0\0\0\xff\xd9"
        assert jpeg_frame_marker(data) == 0xC2

    def test_jpeg_without_a_frame_ends_early(self) -> None:
        with pytest.raises(EOFError, match="before its first frame"):
            jpeg_frame_marker(b"\xff\xd8\xff\xe0\0\4ab")

    def test_jpeg_without_an_end_marker_is_cut_off(self) -> None:
        with pytest.raises(EOFError, match="no end marker"):
            jpeg_frame_marker(b"\xff\xd8\xff\xc0\0\x0b\0\0\0\0\0")

    def test_png_without_its_end_ends_early(self) -> None:
        with pytest.raises(EOFError, match="IEND"):
            list(png_chunks(b"\x89PNG\r\n\x1a\n"))
