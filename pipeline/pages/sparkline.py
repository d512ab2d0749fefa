"""A trend as a line small enough for a table's cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

WIDTH, HEIGHT, MARGIN = 120, 28, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """Coordinates in a box of `WIDTH` by `HEIGHT`.

    Args:
        points: As SVG's `points` attribute takes them.
        last: Where the newest value is.
        text: The trend in words, for those who do not see the line.
    """

    points: str
    last: tuple[float, float]
    text: str


@lru_cache(maxsize=2000)
def draw_sparkline(values: tuple[float, ...]) -> Sparkline | None:
    """Return the line through some values, oldest first; None for fewer than two, which are no trend.

    The scale is the values' own, but never finer than two per cent, so that noise does not look like news.
    """
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    middle, spread = (low + high) / 2, max(high - low, 0.02)
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)

    def place(number: int, value: float) -> tuple[float, float]:
        level = 0.5 - (value - middle) / spread
        return round(MARGIN + number * step, 1), round(MARGIN + level * (HEIGHT - 2 * MARGIN), 1)

    points = [place(number, value) for number, value in enumerate(values)]
    ends = f"from {100 * values[0]:.1f} % to {100 * values[-1]:.1f} %"
    text = f"accuracy of the last {len(values)} deployed: {ends}"
    return Sparkline(points=" ".join(f"{x},{y}" for x, y in points), last=points[-1], text=text)
