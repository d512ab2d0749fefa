"""What identifies a decoded picture: its exact digest, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifacts.codec import build_record
from pipeline.types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFingerprint:
    """Facts of a picture that only decoding it can tell; equal for equal pixels but for the file format.

    Args:
        id: SHA-256 of the decoded pixels and their shape.
        phash: 256-bit perceptual hash, hex; None for a picture too flat to have one.
        colour: Mean RGB of the four quarters, hex: near duplicates agree in it too.
        alignment_thumbnail: 24 x 24 gray levels, base64: shows whether a picture is a crop of another.
        width: Columns, upright; None in the split registry, which does not keep it.
        height: Rows, upright.
        format: JPEG, PNG, GIF or WEBP.
    """

    id: str
    phash: str | None = None
    colour: str | None = None
    alignment_thumbnail: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values; rows hold them beside their own."""
        return {key: getattr(self, name) for name, key in FINGERPRINT_KEYS.items()}

    @classmethod
    def from_dict(cls, value: JsonObject) -> ImageFingerprint | None:
        """Read the fields of a row that are its fingerprint; None for a picture that could not be decoded."""
        if value.get("id") is None:
            return None
        return build_record(cls, {name: value.get(key) for name, key in FINGERPRINT_KEYS.items()})


# The JSON key of each field: rows of the first releases call the thumbnail a sketch.
FINGERPRINT_KEYS = {
    "id": "id",
    "phash": "phash",
    "colour": "colour",
    "alignment_thumbnail": "sketch",
    "width": "width",
    "height": "height",
    "format": "format",
}
