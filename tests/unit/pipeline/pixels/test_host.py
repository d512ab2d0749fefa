from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import UndecodableImage
from pipeline.pixels.host import REASONS, decode_picture, decode_resized, picture_facts, resize_picture
from pipeline.pixels.spec import PixelSpec
from tests.fakes.pictures import encode

SPEC = PixelSpec(height=6, width=4, offset=0, divisor=1)


def gradient(mode: str = "RGB", size: tuple[int, int] = (13, 9)) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(levels).convert(mode)


def png(header: bytes, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def reason_of(data: bytes) -> str:
    with pytest.raises(UndecodableImage) as caught:
        decode_picture(data)
    assert caught.value.reason in REASONS
    assert f"({caught.value.reason})" in str(caught.value)
    return caught.value.reason


class TestWhatIsDecoded:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied_as_pillow_does(self, format: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(gradient(), format, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        assert np.array_equal(decode_picture(data), np.asarray(expected))
        facts = picture_facts(data)
        assert (facts.format, facts.width, facts.height) == (format, *expected.size)

    def test_transparent_pixels_are_laid_on_white(self) -> None:
        pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 100, 200, 128]]], np.uint8)
        decoded = decode_picture(encode(Image.fromarray(pixels), "PNG"))
        assert decoded.tolist() == [[[255, 255, 255], [10, 20, 30], [127, 177, 227]]]

    def test_transparent_webp_is_laid_on_white(self) -> None:
        image = gradient().convert("RGBA")
        image.putalpha(0)
        assert (decode_picture(encode(image, "WEBP", lossless=True)) == 255).all()

    @pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB"])
    def test_every_png_mode_becomes_rgb(self, mode: str) -> None:
        image = gradient().convert("L").convert(mode) if mode in ("1", "LA") else gradient(mode)
        assert np.array_equal(decode_picture(encode(image, "PNG")), np.asarray(image.convert("RGB")))

    def test_palette_entry_named_transparent_is_white(self) -> None:
        header = struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0)
        data = png(header, b"\0\0\1\2", (b"PLTE", bytes(range(9))), (b"tRNS", b"\xff\0"))
        assert decode_picture(data)[0].tolist() == [[0, 1, 2], [255, 255, 255], [6, 7, 8]]

    def test_two_bit_gray_with_a_transparent_level_is_white_there(self) -> None:
        header = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
        data = png(header, b"\0" + bytes([0b00011011]), (b"tRNS", b"\0\1"))
        assert decode_picture(data)[0, :, 0].tolist() == [0, 255, 170, 255]

    def test_sixteen_bit_gray_keeps_its_high_byte(self) -> None:
        levels = np.array([[0x00FF, 0x1234, 0xFFFF]], np.uint16)
        assert decode_picture(encode(Image.fromarray(levels), "PNG"))[0, :, 0].tolist() == [0, 0x12, 0xFF]

    @pytest.mark.parametrize(
        ("bits", "levels"), [(16, [0, 0, 15, 255]), (12, [0, 15, 255, 255]), (8, [15, 255, 255, 255])]
    )
    def test_sixteen_bit_gray_of_fewer_bits_is_shifted(self, bits: int, levels: list[int]) -> None:
        file = encode(Image.fromarray(np.array([[15, 255, 4095, 65535]], np.uint16)), "PNG")
        assert decode_picture(file, bits=bits)[0].tolist() == [[level] * 3 for level in levels]
        spec = PixelSpec(height=1, width=4, offset=0, divisor=1, bits=bits)
        assert (decode_resized(file, spec) == decode_picture(file, bits=bits)).all()

    @pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "1"])
    def test_other_files_are_read_with_any_bits(self, mode: str) -> None:
        file = encode(gradient().convert(mode), "PNG")
        assert (decode_picture(file, bits=12) == decode_picture(file)).all()

    @pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
    def test_sixteen_bit_colours_of_fewer_bits_are_refused(self, kind: int, channels: int) -> None:
        file = png(struct.pack(">IIBBBBB", 1, 1, 16, kind, 0, 0, 0), bytes(1 + 2 * channels))
        assert decode_picture(file).shape == (1, 1, 3)
        with pytest.raises(UndecodableImage, match="12 of them can be used of gray only") as error:
            decode_picture(file, bits=12)
        assert error.value.reason == "unsupported_mode"

    def test_animated_gif_gives_its_first_frame(self) -> None:
        frames = [Image.new("P", (3, 3), color) for color in (1, 2)]
        for frame in frames:
            frame.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
        data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert decode_picture(data)[0, 0].tolist() == [200, 10, 10]

    def test_phone_pictures_with_a_second_frame_are_jpeg(self) -> None:
        data = encode(gradient(), "MPO", save_all=True, append_images=[gradient()])
        assert picture_facts(data).format == "JPEG"
        assert decode_picture(data).shape == (9, 13, 3)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty_file"),
            (b"<html>no picture</html>", "not_an_image"),
            (encode(gradient(), "BMP"), "unsupported_format"),
            (encode(gradient(), "TIFF"), "unsupported_format"),
            (encode(gradient(), "JPEG")[:300], "truncated"),
            (encode(gradient(), "PNG")[:-20], "truncated"),
            (encode(gradient(), "WEBP")[:-20], "corrupt"),
            (b"\xff\xd8\xff\xe0 and then text", "truncated"),
            (encode(gradient("CMYK"), "JPEG").replace(b"Adobe", b"Nobod"), "unsupported_mode"),
        ],
    )
    def test_reason_is_named(self, data: bytes, reason: str) -> None:
        assert reason_of(data) == reason

    def test_png_with_a_wrong_checksum_is_corrupt(self) -> None:
        data = bytearray(encode(gradient(), "PNG"))
        data[-20] ^= 1
        assert reason_of(bytes(data)) == "corrupt"

    def test_pixel_bomb_is_refused_before_it_is_decoded(self) -> None:
        for side in (7_072, 9_500, 60_000):  # above Graft's cap, above Pillow's warning, above Pillow's error
            header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
            assert reason_of(png(header, b"")) == "too_many_pixels"

    def test_palette_index_outside_the_palette_is_corrupt(self) -> None:
        header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
        assert reason_of(png(header, b"\0\0\7", (b"PLTE", b"\1\2\3" * 2))) == "corrupt"

    def test_sixteen_bits_with_a_transparent_colour_are_refused(self) -> None:
        header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
        data = png(header, b"\0" * 7, (b"tRNS", b"\0" * 6))
        assert reason_of(data) == "unsupported_mode"

    def test_animated_webp_is_refused(self) -> None:
        frames = [gradient(), gradient().rotate(180)]
        assert (
            reason_of(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
            == "unsupported_format"
        )

    def test_gif_with_transparent_pixels_is_refused(self) -> None:
        assert reason_of(encode(Image.new("P", (3, 3), 1), "GIF", transparency=1)) == "unsupported_mode"

    def test_arithmetic_coding_is_refused(self) -> None:
        data = encode(gradient(), "JPEG").replace(b"\xff\xc0", b"\xff\xc9")
        assert reason_of(data) in ("unsupported_mode", "corrupt")

    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged EXIF
    def test_damaged_files_raise_nothing_else(self) -> None:
        random = np.random.default_rng(1)
        for format in ("JPEG", "PNG", "GIF", "WEBP"):
            whole = encode(gradient("P") if format == "GIF" else gradient(), format)
            for _ in range(150):
                data = bytearray(whole[: random.integers(1, len(whole) + 1)])
                for _ in range(3):
                    data[random.integers(len(data))] = random.integers(256)
                with contextlib.suppress(UndecodableImage):
                    assert decode_picture(bytes(data)).dtype == np.uint8


class TestResize:
    def test_it_is_a_triangle_filter_over_the_whole_source(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (24, 12, 3)).astype(np.uint8)
        rounded = np.floor(np.einsum("ow,hwc->hoc", triangle(12, 4), pixels) + 0.5)
        expected = np.floor(np.einsum("oh,hwc->owc", triangle(24, 6), rounded) + 0.5)
        assert np.abs(resize_picture(pixels, SPEC) - expected).max() <= 1
        assert (resize_picture(pixels, SPEC) == expected).mean() > 0.9

    def test_a_picture_of_the_right_size_is_left_alone(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3)).astype(np.uint8)
        assert np.array_equal(resize_picture(pixels, SPEC), pixels)

    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_decoding_and_resizing_at_once_is_the_same(self, mode: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(gradient(mode), "JPEG", exif=exif)
        assert np.array_equal(decode_resized(data, SPEC), resize_picture(decode_picture(data), SPEC))

    @pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP"])
    def test_decoding_and_resizing_at_once_is_the_same_for(self, format: str) -> None:
        data = encode(gradient("P" if format == "GIF" else "RGBA"), format)
        assert np.array_equal(decode_resized(data, SPEC), resize_picture(decode_picture(data), SPEC))

    def test_a_damaged_picture_is_not_resized(self) -> None:
        with pytest.raises(UndecodableImage, match="truncated"):
            decode_resized(encode(gradient(), "JPEG")[:300], SPEC)


def triangle(size: int, target: int) -> np.ndarray[Any, Any]:
    """Weights of an antialiased bilinear filter, written from its definition."""
    scale = size / target
    centers = (np.arange(target)[:, None] + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centers) / max(scale, 1))
    return np.asarray(weights / weights.sum(1, keepdims=True))


class TestSpec:
    def test_all_bits_are_the_definition_of_early_releases(self) -> None:
        assert "bits" not in SPEC.to_dict()
        assert SPEC.digest == "33de75a5d59f1a5e"
        assert PixelSpec.from_dict(SPEC.to_dict()) == SPEC

    def test_fewer_bits_are_another_definition(self) -> None:
        spec = replace(SPEC, bits=12)
        assert PixelSpec.from_dict(spec.to_dict()) == spec
        assert len({each.digest for each in (SPEC, spec, replace(SPEC, bits=10))}) == 3

    @pytest.mark.parametrize("bits", [0, 7, 11, 17])
    def test_other_numbers_of_bits_are_refused(self, bits: int) -> None:
        with pytest.raises(ValueError, match=f"Received: {bits}"):
            replace(SPEC, bits=bits)
