"""Pixels on the host: Pillow decodes and resizes. `graph.py` is the same definition in TensorFlow.

Both decode a file to equal pixels and resize them to equal levels. A file on which they cannot agree is
refused here, with its reason, by the dataset's cleaning and by the engine alike.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias, get_args

import numpy as np
from PIL import Image, ImageFile

from pipeline.errors import UndecodableImage
from pipeline.pixels.header import (
    find_orientation,
    is_other_image,
    jpeg_frame_marker,
    png_chunks,
    sniff_format,
)
from pipeline.pixels.spec import ALL_BITS, FORMATS, MAX_PIXELS, PixelSpec
from pipeline.types import UInt8Image

Reason: TypeAlias = Literal[
    "not_an_image",
    "unsupported_format",
    "truncated",
    "corrupt",
    "too_many_pixels",
    "empty_file",
    "unsupported_mode",
]
REASONS: tuple[str, ...] = get_args(Reason)
# What Pillow's readers raise for damaged bytes, seen by mutating files of every format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What the header of a file tells about its picture.

    Args:
        format: `JPEG`, `PNG`, `GIF` or `WEBP`.
        width: Columns as the picture is shown, after its EXIF orientation.
        height: Rows as the picture is shown.
    """

    format: str
    width: int
    height: int


def picture_facts(data: bytes) -> PictureFacts:
    """Read format and shown size from the header alone; the pixels may still prove damaged.

    Raises:
        UndecodableImage: with one of `REASONS` as its `reason`.
    """
    image, format = _open(data)
    width, height = image.size
    if find_orientation(data, format) >= 5:
        width, height = height, width
    return PictureFacts(format=format, width=width, height=height)


def decode_picture(data: bytes, *, bits: int = ALL_BITS) -> UInt8Image:
    """Decode a JPEG, PNG, GIF or WebP file to the RGB pixels it shows.

    EXIF orientation is applied, transparent pixels are laid on white, 16-bit levels keep their high byte.
    Of an animated GIF the first frame counts.

    Args:
        data: The whole file.
        bits: How many of 16 bits the levels of a gray file use, see `PixelSpec`.

    Shapes:
        returns (height, width, 3) uint8.

    Raises:
        UndecodableImage: with one of `REASONS` as its `reason`.
    """
    shown, orientation = _read(data, bits)
    return np.ascontiguousarray(orient_pixels(np.asarray(shown), orientation))


def decode_resized(data: bytes, spec: PixelSpec) -> UInt8Image:
    """Decode a file and resize its picture: `decode_picture`, then `resize_picture`, with fewer copies.

    Shapes:
        returns (spec.height, spec.width, 3) uint8.

    Raises:
        UndecodableImage: with one of `REASONS` as its `reason`.
    """
    shown, orientation = _read(data, spec.bits)
    if isinstance(shown, Image.Image) and orientation == 1:
        return _resize(shown, spec)
    return resize_picture(orient_pixels(np.asarray(shown), orientation), spec)


def resize_picture(pixels: UInt8Image, spec: PixelSpec) -> UInt8Image:
    """Resize to the network's input with Pillow's antialiased bilinear filter, rows after columns.

    The order is fixed by two calls: left alone, Pillow picks the cheaper one, and the two round differently.

    Shapes:
        pixels: (height, width, 3) uint8.  returns: (spec.height, spec.width, 3) uint8.
    """
    return _resize(Image.fromarray(pixels), spec)


def _resize(image: Image.Image, spec: PixelSpec) -> UInt8Image:
    for size in ((spec.width, image.height), (spec.width, spec.height)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


def orient_pixels(pixels: UInt8Image, orientation: int) -> UInt8Image:
    """Turn stored pixels upright, by their EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def lay_on_white(pixels: UInt8Image) -> UInt8Image:
    """Blend RGBA onto white, rounding to the nearest level.

    Shapes:
        pixels: (height, width, 4) uint8.  returns: (height, width, 3) uint8.
    """
    alpha = pixels[..., 3:].astype(np.uint16)
    blended: UInt8Image = ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return blended


def _refuse(reason: Reason, message: str) -> NoReturn:
    raise UndecodableImage(f"{message} ({reason}). Send a whole {', '.join(FORMATS)} file.", reason=reason)


def _refuse_damage(error: BaseException) -> NoReturn:
    text = str(error)
    ends_early = isinstance(error, EOFError) or "truncated" in text.lower()
    try:
        _refuse("truncated" if ends_early else "corrupt", f"The picture's data is damaged: {text}")
    except UndecodableImage as refusal:
        raise refusal from error


def _open(data: bytes) -> tuple[Image.Image, str]:
    if not data:
        _refuse("empty_file", "The file is empty")
    format = sniff_format(data)
    if format is None:
        if is_other_image(data):
            _refuse(
                "unsupported_format", f"The file is an image of another format; it starts with {data[:12]!r}"
            )
        _refuse("not_an_image", f"The file is no image; it starts with {data[:12]!r}")
    try:
        image = Image.open(io.BytesIO(data), formats=[format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        _refuse("too_many_pixels", str(error))
    except _DAMAGE as error:
        _refuse_damage(error)
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        _refuse("too_many_pixels", f"The picture has {size} pixels, more than {MAX_PIXELS:,}")
    return image, format


def _read(data: bytes, bits: int) -> tuple[Image.Image | UInt8Image, int]:
    """Return the stored picture, as RGB, and how it is to be turned."""
    image, format = _open(data)
    try:
        shown = _read_png(image, data, bits) if format == "PNG" else _READERS[format](image, data)
    except _DAMAGE as error:
        _refuse_damage(error)
    return shown, find_orientation(data, format)


def _read_jpeg(image: Image.Image, data: bytes) -> Image.Image | UInt8Image:
    marker = jpeg_frame_marker(data)
    if marker not in (0xC0, 0xC1, 0xC2):
        _refuse("unsupported_mode", f"The JPEG uses a rare coding (marker {marker:#x})")
    if image.mode == "CMYK" and "adobe" not in image.info:
        _refuse("unsupported_mode", "The JPEG is CMYK without the Adobe marker, so its inks may be inverted")
    if image.mode == "CMYK":
        ink = 255 - np.asarray(image).astype(np.uint16)
        pixels: UInt8Image = (ink[..., :3] * ink[..., 3:] // 255).astype(
            np.uint8
        )  # Pillow rounds, libjpeg users cut
        return pixels
    if image.mode not in ("L", "RGB"):
        _refuse("unsupported_mode", f"The JPEG has the colour mode {image.mode}")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def _read_png(image: Image.Image, data: bytes, bits: int) -> UInt8Image:
    kinds = {kind for kind, _ in png_chunks(data)}
    depth, keyed = data[24], b"tRNS" in kinds
    if data[26:28] != b"\0\0" or data[28] > 1:
        raise ValueError(f"the header asks for methods that PNG does not have: {data[26:29]!r}")
    if depth == 16 and keyed:
        _refuse("unsupported_mode", "The PNG has 16-bit levels and a transparent colour")
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.uint16) >> (bits - 8)
        levels: UInt8Image = np.minimum(high, 255).astype(np.uint8)
        return np.repeat(levels[..., None], 3, axis=2)
    if depth == 16 and bits < ALL_BITS:  # Pillow reads the high byte of colours only
        _refuse(
            "unsupported_mode", f"The PNG has colours of 16 bits; {bits} of them can be used of gray only"
        )
    if image.mode == "P":
        _check_palette(image)
    elif image.mode == "L" and keyed and depth < 8:  # Pillow scales the levels but not the transparent one
        image.info["transparency"] = image.info["transparency"] * 255 // (2**depth - 1)
    if not keyed and image.mode in ("1", "L", "P", "RGB"):
        return np.asarray(image.convert("RGB"))
    return lay_on_white(np.asarray(image.convert("RGBA")))


def _read_gif(image: Image.Image, data: bytes) -> UInt8Image:
    if not isinstance(image, ImageFile.ImageFile) or image.tile[0].extents != (0, 0, *image.size):
        _refuse("unsupported_mode", "The GIF's first frame does not fill its canvas")
    image.load()
    if image.mode == "P":
        _check_palette(image)
    if "transparency" in image.info and bool((np.asarray(image) == image.info["transparency"]).any()):
        _refuse("unsupported_mode", "The GIF has transparent pixels")
    return np.asarray(image.convert("RGB"))


def _read_webp(image: Image.Image, data: bytes) -> UInt8Image:
    if getattr(image, "is_animated", False):
        _refuse("unsupported_format", "The WebP is animated")
    if image.mode == "RGBA":
        return lay_on_white(np.asarray(image))
    return np.asarray(image.convert("RGB"))


def _check_palette(image: Image.Image) -> None:
    palette = image.getpalette() or []
    if int(np.asarray(image).max(initial=0)) >= len(palette) // 3:
        raise ValueError("a pixel names a colour that the palette does not have")


_READERS = {"JPEG": _read_jpeg, "GIF": _read_gif, "WEBP": _read_webp}
