"""Small copies of pictures, as JPEG or as data URIs."""

from __future__ import annotations

import base64
import io

from PIL import Image

from pipeline.artifacts.workspace import Workspace
from pipeline.explain.activation import ActivationMap, overlay_activation
from pipeline.pixels.host import decode_picture
from pipeline.pixels.spec import ALL_BITS

SIDE = 144  # pixels of the longer side
MAX_BYTES, BOUNDED_SIDE = 1_000_000, 1280  # of a picture that a page carries on; no network sees more
_QUALITY, _FINE_QUALITY = 72, 92


class Thumbnails:
    """Shrinks each picture of a workspace once.

    Args:
        workspace: Where the original files are.
        bits: As in `PixelSpec`.
    """

    def __init__(self, workspace: Workspace, *, bits: int = ALL_BITS) -> None:
        self._workspace, self._bits = workspace, bits
        self._small: dict[str, Image.Image] = {}

    def plain(self, blob: str) -> str:
        """Return a small copy of a picture, by the digest of its file."""
        return data_uri(self._read(blob))

    def heated(self, blob: str, activation: ActivationMap) -> str:
        """Return a small copy in gray with the places that spoke for the answer in orange."""
        return data_uri(overlay_activation(self._read(blob), activation))

    def _read(self, blob: str) -> Image.Image:
        if blob not in self._small:
            data = self._workspace.storage.read_bytes(self._workspace.blob(blob))
            self._small[blob] = shrink_picture(data, bits=self._bits)
        return self._small[blob]


def shrink_picture(data: bytes, side: int = SIDE, *, bits: int = ALL_BITS) -> Image.Image:
    """Decode a picture and shrink its longer side; `bits` as in `PixelSpec`.

    Raises:
        UndecodableImage: with its reason.
    """
    image = Image.fromarray(decode_picture(data, bits=bits))
    image.thumbnail((side, side))
    return image


def encode_thumbnail(data: bytes, side: int = SIDE, *, bits: int = ALL_BITS) -> bytes:
    """Return a picture as a small JPEG: re-encoded, so that nothing of the file itself is passed on."""
    return _encode(shrink_picture(data, side, bits=bits))


def bound_picture(data: bytes) -> bytes:
    """Return a picture file of at most about a megabyte: itself, or a smaller copy as JPEG."""
    if len(data) <= MAX_BYTES:
        return data
    buffer = io.BytesIO()
    shrink_picture(data, BOUNDED_SIDE).save(buffer, "JPEG", quality=_FINE_QUALITY)
    return buffer.getvalue()


def data_uri(image: Image.Image) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(_encode(image)).decode()}"


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
