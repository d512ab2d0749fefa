"""What the numbers of arrays of pictures mean as levels, 0 to 255; each array by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import BadArchive
from pipeline.npz import ArrayHeader
from pipeline.types import UInt8Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = "biuf"
NEARLY = 0.9  # of -1 to 1: narrower ranges may be another network's own scaling
OVERSHOOT = 0.05  # beyond 0 to 1, as resizing with cubic kernels leaves it
MIN_HIGH = 16  # fractions that end below are hardly levels of 255


class Scale(StrEnum):
    """What the numbers of an array go by."""

    LEVELS = "0 to 255"
    UNIT = "0 to 1"
    SIGNED = "-1 to 1"


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
        """Return the levels of a picture; what lies beyond black or white is clipped."""
        if row.dtype == np.uint8 and (self.offset, self.scale) == (0.0, 1.0):
            return np.ascontiguousarray(row)
        levels = (row.astype(np.float64) + self.offset) * self.scale
        return np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


LEVELS_OF = {
    Scale.LEVELS: Levels(),
    Scale.UNIT: Levels(scale=255.0),
    Scale.SIGNED: Levels(offset=1.0, scale=127.5),
}
HOW = {Scale.UNIT: "multiplied by 255", Scale.SIGNED: "1 added and multiplied by 127.5"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRange:
    """What was measured of an array of pictures.

    Args:
        header: The header of the array.
        low: The least number; infinity for an array without pictures.
        high: The greatest number.
        is_whole: True if all are whole numbers.
    """

    header: ArrayHeader
    low: float
    high: float
    is_whole: bool

    @property
    def is_flat(self) -> bool:
        """True if its numbers do not tell the scale: nothing but 0, nothing but 1, or nothing at all."""
        return self.low > self.high or self.low == self.high in (0, 1)

    def __str__(self) -> str:
        return f"`{self.header.name}` ranges from {self.low:g} to {self.high:g}"


def measure_range(batches: Iterable[NDArray[np.generic]], header: ArrayHeader, origin: str) -> LevelRange:
    """Return the range of an array's numbers.

    Args:
        batches: Its pictures, some at a time.
        header: Its header.
        origin: The archive, for messages.

    Raises:
        BadArchive: if they are no numbers, or not all finite.
    """
    kind = header.dtype.kind
    if kind not in KINDS:
        raise BadArchive(
            f"{origin}: `{header.name}` does not fit; expected numbers. Received: {header.dtype}",
            origin=origin,
            array=header.name,
        )
    low, high, is_whole = np.inf, -np.inf, True
    for batch in batches:
        if kind == "f" and not np.isfinite(batch).all():
            raise BadArchive(
                f"{origin}: `{header.name}` holds NaN or infinity; expected levels 0 to 255.", uri=origin
            )
        low, high = min(low, float(batch.min())), max(high, float(batch.max()))
        is_whole = is_whole and (kind != "f" or bool((batch == np.rint(batch)).all()))
    return LevelRange(header=header, low=low, high=high, is_whole=is_whole)


def choose_levels(ranges: Sequence[LevelRange], origin: str) -> tuple[list[Levels], list[str]]:
    """Return how the numbers of each array become levels, and statements where that is not plain.

    Args:
        ranges: Of the arrays of an archive, each part of a split by itself.
        origin: The archive, for messages.

    Raises:
        BadArchive: if the numbers of an array are no levels, or those of several contradict one another.
    """
    has_signed = any(_is_signed(each) for each in ranges)
    scale_of = {
        each.header.name: _find_scale(each, has_signed, origin) for each in ranges if not each.is_flat
    }
    _refuse_contradictions([each for each in ranges if not each.is_flat], scale_of, origin)
    common = next(iter(scale_of.values()), None) if len(set(scale_of.values())) == 1 else None
    chosen = [scale_of.get(each.header.name, common or _default_scale(each)) for each in ranges]
    statements = [_describe(each, scale) for each, scale in zip(ranges, chosen, strict=True)]
    return [LEVELS_OF[scale] for scale in chosen], [text for text in statements if text]


def _is_signed(each: LevelRange) -> bool:
    return -1 - OVERSHOOT <= each.low <= -NEARLY and NEARLY <= each.high <= 1 + OVERSHOOT


def _default_scale(each: LevelRange) -> Scale:
    return Scale.LEVELS if each.header.dtype.kind in "iu" else Scale.UNIT


def _find_scale(each: LevelRange, has_signed: bool, origin: str) -> Scale:
    """Return the scale of an array; beside one of -1 to 1, part of that range will do."""
    low, high, kind = each.low, each.high, each.header.dtype.kind
    if _is_signed(each) or (has_signed and -1 - OVERSHOOT <= low < 0 and high <= 1 + OVERSHOOT):
        return Scale.SIGNED
    overshoot = 0 if each.is_whole or high < NEARLY else OVERSHOOT
    if -overshoot <= low and high <= 1 + overshoot:
        return Scale.UNIT
    if low < 0 or high > 255 or (kind == "f" and not each.is_whole and high < MIN_HIGH):
        raise BadArchive(
            f"{origin}: {each}; expected levels 0 to 255, 0 to 1 or -1 to 1. Save the pictures before any "
            f"network's own scaling{_remedy(each)}.",
            uri=origin,
        )
    return Scale.LEVELS


def _refuse_contradictions(ranges: Sequence[LevelRange], scale_of: Mapping[str, Scale], origin: str) -> None:
    """Raise where one part may have been scaled as the other: 0 to 1 is part of both other scales."""
    scales = set(scale_of.values())
    is_unclear = {Scale.UNIT, Scale.SIGNED} <= scales or (
        {Scale.UNIT, Scale.LEVELS} <= scales
        and any(
            scale_of[each.header.name] is Scale.UNIT and each.is_whole and each.header.dtype.kind != "b"
            for each in ranges
        )
    )
    if is_unclear:
        raise BadArchive(
            f"{origin}: {', '.join(map(str, ranges))}; it is unclear whether these are scales of their own. "
            "Save all parts with levels 0 to 255.",
            uri=origin,
        )


def _describe(each: LevelRange, scale: Scale) -> str:
    name = each.header.name
    if each.header.dtype.kind == "b":
        return f"{name} hold truth values: false is black, true is white"
    if scale is Scale.LEVELS:
        return "" if each.is_whole else f"{name} hold fractions of levels: rounded to whole ones"
    floor = -1 if scale is Scale.SIGNED else 0
    clipped = "; what lies beyond was clipped" if each.low < floor or each.high > 1 else ""
    return f"{name} range from {each.low:g} to {each.high:g}: taken as {scale} and {HOW[scale]}{clipped}"


def _remedy(each: LevelRange) -> str:
    """Return the line of NumPy for levels of more than 8 bits; empty where it is not that."""
    name = each.header.name
    if each.header.dtype == np.int8:
        return f", or moved up, if -128 is black: (a['{name}'].astype('int16') + 128).astype('uint8')"
    bits = next((bits for bits in (10, 12, 14, 16) if each.high < 2**bits), None)
    if each.low < 0 or bits is None or each.header.dtype.kind == "f":
        return ""
    return f", or as bytes, if these are {bits} bits: (a['{name}'] >> {bits - 8}).astype('uint8')"
