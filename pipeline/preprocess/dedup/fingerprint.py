"""What `clean` has to know of a picture file, found by decoding it whole, once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from pipeline.artifacts.dataset import ManifestRow
from pipeline.errors import UndecodableImage
from pipeline.pixels.host import REASONS, decode_picture, picture_facts
from pipeline.preprocess.dedup.alignment import make_alignment_thumbnail
from pipeline.preprocess.dedup.near import Look
from pipeline.types import UInt8Image

HASH_SIZE = 16  # 16 x 16 = 256 bits: unlike pictures differ in about half of them
FLAT_LEVELS = 4.0  # below this deviation the hash is made of noise


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """Facts of one blob; the fields are those of `ManifestRow`. With a `reason` there are no others."""

    id: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    phash: str | None = None
    colour: str | None = None
    sketch: str | None = None
    reason: str | None = None


def examine_picture(data: bytes) -> FileFacts:
    """Decode a picture and return its facts, or the reason why it cannot be decoded."""
    try:
        pixels, format = decode_picture(data), picture_facts(data).format
    except UndecodableImage as error:
        return FileFacts(reason=error.reason)
    look = perceive_pixels(pixels)
    height, width, _ = pixels.shape
    return FileFacts(
        id=pixel_id(pixels),
        width=width,
        height=height,
        format=format,
        phash=look.phash,
        colour=look.colour,
        sketch=look.sketch,
    )


def recall_facts(row: ManifestRow) -> FileFacts | None:
    """Return what an earlier version's row knows of its blob, None where it knows nothing."""
    if row.id is None:
        return FileFacts(reason=row.reason) if row.reason in REASONS else None
    if row.sketch is None:  # of a release that drew none: look again
        return None
    return FileFacts(
        id=row.id,
        width=row.width,
        height=row.height,
        format=row.format,
        phash=row.phash,
        colour=row.colour,
        sketch=row.sketch,
    )


def pixel_id(pixels: UInt8Image) -> str:
    """Return the SHA-256 of the pixels and their shape: equal for equal pictures in any file format."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]}x3\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def perceive_pixels(pixels: UInt8Image) -> Look:
    """Return how a picture looks; a flat one has no perceptual hash."""
    image = Image.fromarray(pixels)
    colour = image.resize((2, 2), Image.Resampling.BOX).tobytes().hex()
    gray = image.convert("L").resize((64, 64), Image.Resampling.LANCZOS)
    is_flat = np.asarray(gray).std() < FLAT_LEVELS
    phash = None if is_flat else str(imagehash.phash(gray, hash_size=HASH_SIZE, highfreq_factor=4))
    return Look(phash=phash, colour=colour, sketch=make_alignment_thumbnail(pixels))
