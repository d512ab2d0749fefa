"""Fingerprints of picture files, made by decoding each whole, once."""

from __future__ import annotations

import hashlib

import imagehash
import numpy as np
from PIL import Image

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.manifest import ManifestRow
from pipeline.errors import UndecodableImage
from pipeline.pixels.header import sniff_format
from pipeline.pixels.host import REASONS, decode_picture
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.dedup.alignment import make_alignment_thumbnail
from pipeline.types import UInt8Image

HASH_SIZE = 16  # 16 x 16 = 256 bits: unlike pictures differ in about half of them
FLAT_LEVELS = 4.0  # below this deviation the hash is made of noise


def examine_picture(data: bytes, *, bits: int = ALL_BITS) -> ImageFingerprint | str:
    """Decode a picture and return its fingerprint, or the reason why it cannot be decoded.

    Args:
        data: The file.
        bits: As in `PixelSpec`.
    """
    try:
        pixels = decode_picture(data, bits=bits)
    except UndecodableImage as error:
        return str(error.reason)
    return fingerprint_pixels(pixels, format=sniff_format(data))


def recall_examination(row: ManifestRow) -> ImageFingerprint | str | None:
    """Return what an earlier version's row says of its blob, None where it must be decoded again."""
    if row.fingerprint is None:
        return row.reason if row.reason in REASONS else None
    # The first releases made no alignment thumbnail.
    return row.fingerprint if row.fingerprint.alignment_thumbnail is not None else None


def pixel_id(pixels: UInt8Image) -> str:
    """Return the SHA-256 of the pixels and their shape: equal for equal pictures in any file format."""
    digest = hashlib.sha256(f"{pixels.shape[0]}x{pixels.shape[1]}x3\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def fingerprint_pixels(pixels: UInt8Image, *, format: str | None = None) -> ImageFingerprint:
    """Return the fingerprint of a decoded picture; a flat one has no perceptual hash."""
    image = Image.fromarray(pixels)
    gray = image.convert("L")
    levels = gray.resize((64, 64), Image.Resampling.LANCZOS)
    is_flat = np.asarray(levels).std() < FLAT_LEVELS
    return ImageFingerprint(
        id=pixel_id(pixels),
        phash=None if is_flat else _perceptual_hash(levels),
        colour=image.resize((2, 2), Image.Resampling.BOX).tobytes().hex(),
        alignment_thumbnail=make_alignment_thumbnail(gray),
        width=pixels.shape[1],
        height=pixels.shape[0],
        format=format,
    )


def _perceptual_hash(levels: Image.Image) -> str:
    """Return the hash as `imagehash` writes it, whose own way bit by bit takes as long as the cosines."""
    bits = imagehash.phash(levels, hash_size=HASH_SIZE, highfreq_factor=4).hash
    return np.packbits(bits).tobytes().hex()
