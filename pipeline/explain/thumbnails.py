"""Small copies of pictures, and the parts of them that spoke for an answer, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline.artifacts.dataset import ManifestRow
from pipeline.pixels.host import decode_picture
from pipeline.storage import Storage

SIDE = 144  # pixels of the longer side
_QUALITY = 72
_HEAT = np.array([255, 96, 0], np.float32)


class Thumbnails:
    """Makes each picture small once.

    Args:
        storage: Where the blobs are.
        workspace: URI of the bucket.
    """

    def __init__(self, storage: Storage, workspace: str) -> None:
        self._storage, self._workspace = storage, workspace
        self._small: dict[str, Image.Image] = {}

    def plain(self, row: ManifestRow) -> str:
        """Return a picture as a small JPEG: re-encoded, so that nothing of the file itself is passed on."""
        return data_uri(self._read(row))

    def heated(self, row: ManifestRow, activation: Sequence[Sequence[float]]) -> str:
        """Return a picture in gray with the places that spoke for the answer in orange."""
        image = self._read(row)
        return data_uri(overlay_activation(image, activation))

    def _read(self, row: ManifestRow) -> Image.Image:
        if row.blob not in self._small:
            data = self._storage.read_bytes(f"{self._workspace}/blobs/{row.blob}")
            self._small[row.blob] = shrink_picture(data)
        return self._small[row.blob]


def shrink_picture(data: bytes) -> Image.Image:
    """Decode a picture and make it small.

    Raises:
        UndecodableImage: with its reason.
    """
    image = Image.fromarray(decode_picture(data))
    image.thumbnail((SIDE, SIDE))
    return image


def encode_thumbnail(data: bytes) -> bytes:
    """Return a picture as a small JPEG: re-encoded, so that nothing of the file itself is passed on."""
    return _encode(shrink_picture(data))


def overlay_activation(image: Image.Image, activation: Any) -> Image.Image:
    """Return a gray picture, orange where the class-activation map is positive.

    The network sees the whole picture stretched to a square, so the map is stretched back over it.
    """
    values = np.clip(np.asarray(activation, np.float32), 0, None)
    peak = float(values.max())
    scaled = Image.fromarray(values / peak if peak > 0 else values)
    heat = np.asarray(scaled.resize(image.size, Image.Resampling.BILINEAR))[..., None] * 0.75
    gray = np.asarray(image.convert("L").convert("RGB"), np.float32)
    return Image.fromarray((gray * (1 - heat) + _HEAT * heat).round().astype(np.uint8))


def data_uri(image: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(_encode(image)).decode()}"


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
