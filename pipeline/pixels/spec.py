"""What a network is fed: a size, a resize rule, a scaling and a background for transparent pixels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.types import JsonObject

MAX_PIXELS = 50_000_000  # pixel bombs: a PNG of 100 megapixels can be 12 kB
ALL_BITS = 16
USED_BITS = (8, 10, 12, 14, ALL_BITS)  # of the levels of 16-bit files
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")  # what both executions decode to the same pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSpec:
    """One definition of pixels; `digest` names it in bucket paths.

    Args:
        height: Rows of the network's input, pixels.
        width: Columns of the network's input, pixels.
        offset: Subtracted from the uint8 level before scaling.
        divisor: Divides what is left.
        resize: The only rule there is: antialiased bilinear (a triangle filter on the whole source).
        background: RGB level that transparent pixels are laid on.
        bits: How many bits the levels of 16-bit gray files have; the highest eight of them are kept, and a
            level beyond them is white.
    """

    height: int
    width: int
    offset: float
    divisor: float
    resize: str = "bilinear-antialias"
    background: tuple[int, int, int] = (255, 255, 255)
    bits: int = ALL_BITS

    def __post_init__(self) -> None:
        """Check the bits, which say how far levels are shifted."""
        if self.bits not in USED_BITS:
            raise ValueError(f"the bits of 16-bit files are one of {USED_BITS}. Received: {self.bits!r}")

    def to_dict(self) -> JsonObject:
        """Return plain JSON values; the default of `bits` is left out, as in the specs of early releases."""
        values = {**asdict(self), "background": list(self.background)}
        return values if self.bits != ALL_BITS else {name: values[name] for name in values if name != "bits"}

    @classmethod
    def from_dict(cls, value: JsonObject) -> PixelSpec:
        """Read what `to_dict` wrote."""
        values: dict[str, Any] = dict(value)
        return cls(**{**values, "background": tuple(values["background"])})

    @property
    def digest(self) -> str:
        """Sixteen hex digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
