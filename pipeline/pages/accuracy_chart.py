"""The accuracy of a classifier's versions, each with its interval, as a drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.pages.versions import MAX_INTERVALS, VersionRow
from pipeline.report.page import percent

STEP, LEFT, RIGHT, TOP, PLOT_HEIGHT, BOTTOM = 22, 48, 16, 10, 150, 10
MIN_PLOT_WIDTH = 280
TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
MAX_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A level with its name."""

    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A version in the drawing.

    Args:
        x: Its place.
        y: Its accuracy.
        low: Lower end of the interval; None where it is unknown.
        high: Upper end likewise.
        serves: Whether it has the traffic.
        text: The version and its numbers in words.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    serves: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyChart:
    """Coordinates for an SVG.

    Args:
        width: Of the whole.
        height: Of the whole.
        left: Where the plot begins.
        ticks: Levels of accuracy.
        marks: The versions, oldest first.
        text: The chart in words, for those who do not see it.
    """

    width: float
    height: float
    left: float
    ticks: Sequence[Tick]
    marks: Sequence[Mark]
    text: str

    @property
    def has_serving(self) -> bool:
        """Whether the version that serves is among them."""
        return any(mark.serves for mark in self.marks)


def draw_accuracy(rows: Sequence[VersionRow], numbers: Mapping[str, int]) -> AccuracyChart | None:
    """Return the chart of the newest versions; None for fewer than two with an accuracy.

    Args:
        rows: The versions of a classifier, newest first.
        numbers: What people call those that were deployed.
    """
    drawn = [row for row in rows if row.accuracy is not None][:MAX_INTERVALS][::-1]
    if len(drawn) < 2:
        return None
    levels = _choose_levels([value for row in drawn for value in _values(row)])

    def place(value: float) -> float:
        return round(TOP + PLOT_HEIGHT * (levels[-1] - value) / (levels[-1] - levels[0]), 1)

    step = max(STEP, MIN_PLOT_WIDTH / (len(drawn) - 1))
    marks = [
        Mark(
            x=round(LEFT + 12 + number * step, 1),
            y=place(row.accuracy or 0.0),
            low=place(row.interval[0]) if row.interval else None,
            high=place(row.interval[1]) if row.interval else None,
            serves=row.is_default,
            text=_describe(row, numbers),
        )
        for number, row in enumerate(drawn)
    ]
    return AccuracyChart(
        width=marks[-1].x + RIGHT,
        height=TOP + PLOT_HEIGHT + BOTTOM,
        left=LEFT,
        ticks=[Tick(y=place(level), text=f"{100 * level:.0f} %") for level in levels],
        marks=marks,
        text=f"Accuracy over {len(drawn)} versions. Oldest: {marks[0].text}. Newest: {marks[-1].text}.",
    )


def _values(row: VersionRow) -> tuple[float, ...]:
    return (row.accuracy or 0.0, *(row.interval or ()))


def _describe(row: VersionRow, numbers: Mapping[str, int]) -> str:
    name = f"v{numbers[row.version]}" if row.version in numbers else row.version
    text = f"{name}: {percent(row.accuracy)}"
    return f"{text}, {' to '.join(map(percent, row.interval))}" if row.interval else text


def _choose_levels(values: Sequence[float]) -> list[float]:
    """Return round levels that enclose some shares, within 0 and 1."""
    low, high = max(min(values), 0.0), min(max(values), 1.0)
    step = next((each for each in TICK_STEPS if (high - low) / each <= MAX_TICKS - 2), TICK_STEPS[-1])
    first = max(math.floor(low / step + 1e-9), 0)
    last = min(math.ceil(high / step - 1e-9), round(1 / step))
    if last == first:
        first, last = (first, last + 1) if last < round(1 / step) else (first - 1, last)
    return [round(step * number, 4) for number in range(first, last + 1)]
