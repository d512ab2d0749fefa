from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from pipeline.pixels.conversion import convert_picture, find_highest_level, name_format
from pipeline.pixels.host import decode_picture
from tests.fakes.pictures import encode, noise

PICTURE = Image.fromarray(noise(1, 20))
DEEP = noise(2)[..., 0].astype(np.uint16) * 16


@pytest.mark.parametrize(
    ("format", "options", "name"),
    [
        ("BMP", {}, "BMP"),
        ("TIFF", {}, "TIFF"),
        ("TIFF", {"compression": "tiff_lzw"}, "TIFF"),
        ("TIFF", {"compression": "tiff_deflate"}, "TIFF"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
def test_lossless_pictures_keep_every_level(
    format: str, options: dict[str, str], name: str, mode: str
) -> None:
    image = PICTURE.convert(mode)
    conversion = convert_picture(encode(image, format, **options))
    assert conversion is not None
    assert (conversion.format, conversion.has_more) == (name, False)
    assert (decode_picture(conversion.data) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("format", ["AVIF", "ICO"])
def test_other_pictures_are_converted(format: str) -> None:
    conversion = convert_picture(encode(PICTURE.resize((32, 32)), format))
    assert conversion is not None
    assert decode_picture(conversion.data).shape == (32, 32, 3)


def test_transparency_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    conversion = convert_picture(encode(image, "GIF", transparency=0))
    assert conversion is not None
    pixels = decode_picture(conversion.data)
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("format", "name"), [("TIFF", "TIFF"), ("WEBP", "WEBP")])
def test_of_several_pages_or_frames_the_first_is_taken(format: str, name: str) -> None:
    frames = [PICTURE.convert("P"), Image.fromarray(noise(3, 20)).convert("P")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    conversion = convert_picture(data)
    assert conversion is not None
    assert (conversion.format, conversion.has_more) == (name, True)
    assert (decode_picture(conversion.data) == np.asarray(frames[0].convert("RGB"))).all()


def test_orientation_of_a_tiff_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    conversion = convert_picture(encode(Image.new("RGB", (4, 9), "red"), "TIFF", exif=exif))
    assert conversion is not None
    assert decode_picture(conversion.data).shape == (4, 9, 3)


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_bmp_whose_fourth_byte_is_empty_is_opaque(alpha: int) -> None:
    width = height = 4
    pixels = bytes((10, 120, 200, alpha)) * (width * height)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    size = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    header = size + masks + b"BGRs" + b"\0" * 48
    file = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header))
    conversion = convert_picture(file + header + pixels)
    assert conversion is not None
    assert (decode_picture(conversion.data) == (200, 120, 10)).all()


@pytest.mark.parametrize("factor", [1, 16])
def test_16_bit_levels_stay_and_are_measured(factor: int) -> None:
    levels = noise(2)[..., 0].astype(np.uint16) * factor
    conversion = convert_picture(encode(Image.fromarray(levels), "TIFF"))
    assert conversion is not None
    assert find_highest_level(conversion.data) == levels.max()
    assert (np.asarray(Image.open(io.BytesIO(conversion.data))) == levels).all()


@pytest.mark.parametrize("factor", [1, 256])
def test_16_bit_levels_that_rise_from_white_are_turned(factor: int) -> None:
    levels = noise(2)[..., 0].astype(np.uint16) * factor
    conversion = convert_picture(encode(Image.fromarray(levels), "TIFF", tiffinfo={262: 0}))
    assert conversion is not None
    assert (np.asarray(Image.open(io.BytesIO(conversion.data))) == 65535 - levels).all()


def test_8_bit_levels_that_rise_from_white_are_turned_once() -> None:
    data = encode(Image.fromarray(noise(2)[..., 0]), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(data)) as image:
        shown = np.asarray(image.convert("RGB"))
    conversion = convert_picture(data)
    assert conversion is not None
    assert (decode_picture(conversion.data) == shown).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + b"x" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        encode(PICTURE, "BMP")[:100],
        encode(PICTURE, "PNG"),
        encode(PICTURE, "JPEG"),
        encode(PICTURE.convert("P"), "GIF"),
        encode(PICTURE, "WEBP"),
        encode(Image.fromarray(noise(1)[..., 0].astype(np.float32)), "TIFF"),
    ],
)
def test_what_needs_no_conversion_or_allows_none_is_left_as_it_is(data: bytes) -> None:
    assert convert_picture(data) is None


def test_a_raw_file_of_a_camera_is_not_taken_for_its_thumbnail() -> None:
    data = encode(PICTURE, "TIFF", tiffinfo={254: 1})
    assert convert_picture(data) is None
    assert name_format(data) == "TIFF"
