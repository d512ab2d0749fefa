"""Pictures of formats that the served models do not read, converted to PNG on their way into a dataset.

The definition of pixels in `host.py` and `graph.py` stays as small as it is. Levels are kept: 16-bit gray
stays 16-bit, transparency stays. Of several pages or frames the first counts.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from pipeline.pixels.header import sniff_format
from pipeline.pixels.spec import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

PNG_LEVEL = 3  # a third of the time of Pillow's default for a tenth more bytes
# The first bytes of formats, which Pillow reads them, and how a user converts what it does not.
MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG"),
    (b"%PDF", "PDF"),
)
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"mif1", b"msf1", b"hevc"), "HEIC"),
}
READERS = {
    **{name: name for name in ("BMP", "TIFF", "ICO", "AVIF", "GIF", "WEBP")},
    **{"PNM": "PPM", "JPEG 2000": "JPEG2000"},
}
OPTIONAL = {"HEIC": ("HEIF", "pillow_heif"), "JPEG XL": ("JXL", "pillow_jxl")}
CONVERTED = ("BMP", "TIFF", "AVIF", "ICO", "PNM", "JPEG 2000")
REMEDIES = {
    "HEIC": "pip install pillow-heif",
    "JPEG XL": "pip install pillow-jxl-plugin",
    "SVG": "rsvg-convert FILE.svg -o FILE.png",
    "PDF": "pdftoppm -png FILE.pdf FILE",
    "DICOM": "dcmj2pnm --write-png +Wm FILE.dcm FILE.png",
    "NumPy array": "PIL.Image.fromarray(numpy.load('FILE.npy')).save('FILE.png')",
    "raw": "darktable-cli FILE FILE.jpg",
    "video": "ffmpeg -i FILE -vf fps=1 FILE-%04d.png",
    "Git LFS pointer": "git lfs pull",
    "web page": "download the pictures themselves",
}
# What lies among pictures and is none, by the first bytes.
OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "NumPy array"),
    (b"version https://git-lfs", "Git LFS pointer"),
    (b"<!doctype html", "web page"),
    (b"<html", "web page"),
    (b"\x89hdf", "HDF5"),
    (b"pk\3\4", "zip"),
    (b"simple  =", "FITS"),
)
VIDEOS = (b"qt  ", b"isom", b"mp41", b"mp42", b"M4V ", b"avc1")
PNM = re.compile(rb"P[1-6]\s")
DNG_VERSION, NEW_SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC = 50706, 254, 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0  # a value of `PHOTOMETRIC`
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, KeyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A converted picture.

    Args:
        data: A PNG file.
        format: What it was.
        has_more: True if it had more pages or frames, which are not used.
    """

    data: bytes
    format: str
    has_more: bool


def name_format(data: bytes) -> str | None:
    """Return a name for the format of a picture file; None for what is no picture."""
    readable = sniff_format(data)
    if readable is not None:
        return readable
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12])
    if PNM.match(data):
        return "PNM"
    return next((name for magic, name in MAGICS if data.startswith(magic)), None)


def name_content(data: bytes) -> str | None:
    """Return a name for what a file is, also for what is no picture; None for what is not known."""
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[4:8] == b"ftyp" and data[8:12] not in BRANDS:
        return "raw" if data[8:12] == b"crx " else "video" if data[8:12] in VIDEOS else None
    start = data[:64].lstrip().lower()
    other = next((name for magic, name in OTHERS if start.startswith(magic.lower())), None)
    return other or name_format(data)


def convert_picture(data: bytes) -> Conversion | None:
    """Return a PNG of a picture that would be refused for its format; None if that is not needed or fails."""
    format = name_format(data)
    if format in (None, "JPEG", "PNG"):
        return None
    reader = _find_reader(format)
    if reader is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=[reader]) as image:
            if image.width * image.height > MAX_PIXELS or not _needs_conversion(image, format):
                return None
            has_more = getattr(image, "n_frames", 1) > 1
            return Conversion(data=_encode(_read_first(image)), format=format, has_more=has_more)
    except (*_DAMAGE, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def find_highest_level(data: bytes) -> int | None:
    """Return the highest level of a 16-bit PNG, of 65535; None for any other file.

    Of colours only the high byte is read, so the level is the highest that it may be.
    """
    if sniff_format(data) != "PNG" or data[24:25] != b"\x10":
        return None
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            if image.mode.startswith("I"):
                return int(np.asarray(image).max(initial=0))
            return int(np.asarray(image.convert("RGB")).max(initial=0)) << 8 | 0xFF
    except (*_DAMAGE, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def _find_reader(format: str) -> str | None:
    """Return Pillow's name of a format that can be converted here; optional packages are looked for."""
    if format in READERS:
        return READERS[format]
    if format not in OPTIONAL or importlib.util.find_spec(OPTIONAL[format][1]) is None:
        return None
    name, package = OPTIONAL[format]
    module = importlib.import_module(package)
    if name not in Image.OPEN:
        module.register_heif_opener()
    return name


def _needs_conversion(image: Image.Image, format: str) -> bool:
    if format == "WEBP":
        return bool(getattr(image, "is_animated", False))
    if format == "GIF":
        return "transparency" in image.info or image.tile[0].extents != (0, 0, *image.size)  # type: ignore[attr-defined]
    # A camera's raw file is a TIFF whose first picture is a thumbnail.
    tags = getattr(image, "tag_v2", {})
    return DNG_VERSION not in tags and not int(tags.get(NEW_SUBFILE_TYPE, 0)) & 1


def _read_first(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        levels = _lay_on_black(np.asarray(image), image)
        if int(levels.min(initial=0)) < 0 or int(levels.max(initial=0)) > 0xFFFF:
            raise ValueError("levels of more than 16 bits")
        return Image.fromarray(levels.astype(np.uint16))
    if image.mode == "F":
        raise ValueError("levels are fractions")
    upright = ImageOps.exif_transpose(image)
    if image.format == "BMP" and upright.mode == "RGBA" and not np.asarray(upright)[..., 3].any():
        return upright.convert("RGB")  # written by programs that leave the fourth byte empty
    if "transparency" in upright.info or upright.mode in ("PA", "La", "RGBa"):
        return upright.convert("RGBA")
    return upright if upright.mode in ("1", "L", "P", "LA", "RGB", "RGBA") else upright.convert("RGB")


def _lay_on_black(levels: NDArray[np.generic], image: Image.Image) -> NDArray[np.generic]:
    """Return gray levels of more than 8 bits that rise from black; Pillow turns those of 8 bits only."""
    tags = getattr(image, "tag_v2", {})
    if int(tags.get(PHOTOMETRIC, 1)) != WHITE_IS_ZERO:
        return levels
    bits = int(tags.get(BITS_PER_SAMPLE, (16,))[0])
    return (1 << bits) - 1 - levels.astype(np.int64)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    bare = image.copy()
    bare.info = {}
    bare.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
