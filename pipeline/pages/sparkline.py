"""A trend as a line small enough for a table's cell."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return the line through some accuracies, oldest first; None for fewer than two, which are no trend.

    The scale is the values' own, but never finer than two per cent, so that noise does not look like news.
    """
    if len(values) < 2:
        return None
    ends = f"from {100 * values[0]:.1f} % to {100 * values[-1]:.1f} %"
    text = f"accuracy of the last {len(values)} deployed: {ends}"
    return _draw(values, text, max(max(values) - min(values), 0.02))


def draw_epochs(name: str, values: Sequence[float]) -> Sparkline | None:
    """Return the line of a figure over the epochs of a training; None for fewer than two.

    Args:
        name: Of the figure: `loss`, for instance.
        values: One for each epoch, the first first.
    """
    if len(values) < 2:
        return None
    text = f"{name} of {len(values)} epochs: from {values[0]:.4g} to {values[-1]:.4g}"
    return _draw(values, text, (max(values) - min(values)) or 1)


def _draw(values: Sequence[float], text: str, spread: float) -> Sparkline:
    middle = (min(values) + max(values)) / 2
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)

    def place(number: int, value: float) -> tuple[float, float]:
        level = 0.5 - (value - middle) / spread
        return round(MARGIN + number * step, 1), round(MARGIN + level * (HEIGHT - 2 * MARGIN), 1)

    points = [place(number, value) for number, value in enumerate(values)]
    return Sparkline(points=" ".join(f"{x},{y}" for x, y in points), last=points[-1], text=text)
