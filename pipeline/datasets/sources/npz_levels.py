"""What the numbers of an array of pictures mean as levels, 0 to 255."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import BadArchive
from pipeline.npz import ArrayHeader
from pipeline.types import UInt8Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = "biuf"
NEARLY = 0.9  # of -1 to 1: narrower ranges may be another network's own scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How numbers become levels.

    Args:
        offset: Is added first.
        scale: Multiplies what comes of it.
    """

    offset: float = 0.0
    scale: float = 1.0

    def apply(self, row: NDArray[np.generic]) -> UInt8Image:
        """Return the levels of a picture."""
        if row.dtype == np.uint8 and (self.offset, self.scale) == (0.0, 1.0):
            return np.ascontiguousarray(row)
        levels = (row.astype(np.float64) + self.offset) * self.scale
        return np.ascontiguousarray(np.rint(levels).astype(np.uint8))


def find_levels(
    batches: Iterable[NDArray[np.generic]], header: ArrayHeader, origin: str
) -> tuple[Levels, str]:
    """Return how an array's numbers become levels, and a statement if that is not plain.

    Args:
        batches: All pictures, some at a time.
        header: Of their array.
        origin: The archive, for messages.

    Raises:
        BadArchive: if the numbers are no levels.
    """
    if header.dtype.kind not in KINDS:
        raise BadArchive(
            f"{origin}: `{header.name}` does not fit; expected numbers. Received: {header.dtype}",
            origin=origin,
            array=header.name,
        )
    low, high, whole = np.inf, -np.inf, True
    for batch in batches:
        if header.dtype.kind == "f" and not np.isfinite(batch).all():
            raise BadArchive(
                f"{origin}: `{header.name}` holds NaN or infinity; expected levels 0 to 255.", uri=origin
            )
        low, high = min(low, float(batch.min())), max(high, float(batch.max()))
        whole = whole and (header.dtype.kind != "f" or bool((batch == np.rint(batch)).all()))
    return _choose(low, high, whole, header, origin)


def _choose(low: float, high: float, whole: bool, header: ArrayHeader, origin: str) -> tuple[Levels, str]:
    name = header.name
    if header.dtype.kind == "b":
        return Levels(scale=255.0), f"{name} hold truth values: false is black, true is white"
    if -1 <= low <= -NEARLY and NEARLY <= high <= 1:
        text = f"{name} range from {low:g} to {high:g}: taken as -1 to 1, 1 added and multiplied by 127.5"
        return Levels(offset=1.0, scale=127.5), text
    if low < 0 or high > 255:
        raise BadArchive(
            f"{origin}: `{name}` ranges from {low:g} to {high:g}; expected levels 0 to 255, 0 to 1 or -1 to "
            f"1. Save the pictures before any network's own scaling{_remedy(low, high, header)}.",
            uri=origin,
        )
    if high <= 1 and (header.dtype.kind == "f" or high > low):
        text = f"{name} range from {low:g} to {high:g}: taken as 0 to 1 and multiplied by 255"
        return Levels(scale=255.0), text
    return Levels(), "" if whole else f"{name} hold fractions of levels: rounded to whole ones"


def _remedy(low: float, high: float, header: ArrayHeader) -> str:
    """Return the line of NumPy for levels of more than 8 bits; empty where it is not that."""
    bits = next((bits for bits in (10, 12, 14, 16) if high < 2**bits), None)
    if low < 0 or bits is None or header.dtype.kind == "f":
        return ""
    return f", or as bytes, if these are {bits} bits: (a['{header.name}'] >> {bits - 8}).astype('uint8')"
