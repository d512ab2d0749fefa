"""Line plots as inline SVG in the colours of the page: a plotting library takes longer to import."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 320, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 28, 38  # margins around the axes, with room for discs on them
LEGEND_ROW, LETTER = 15, 6.0  # height of a row, and about the width of a letter
TICKS = 6  # at most, about
DASHES = ("", "6 3", "7 3 2 3", "2 3")  # so that lines differ by more than their colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a plot.

    Args:
        points: In order.
        label: In the legend; empty to leave it out.
        series: Which of the page's colours, from 0; None for that of its text.
        dash: Which of `DASHES`.
        is_drawn: Whether the points are joined.
        radii: Of a disc at each point; empty for no discs.
    """

    points: Sequence[tuple[float, float]]
    label: str = ""
    series: int | None = None
    dash: int = 0
    is_drawn: bool = True
    radii: Sequence[float] = ()

    @property
    def colour(self) -> str:
        """Its colour in the page."""
        return "currentColor" if self.series is None else f"var(--series-{self.series + 1})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Lines on two axes.

    Args:
        title: What it shows, above it.
        lines: What is drawn.
        x: What the first axis means.
        y: What the second axis means.
        x_range: Of the first axis.
        y_range: Of the second axis.
    """

    title: str
    lines: Sequence[Line]
    x: str
    y: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def svg(self) -> str:
        """Return the drawing."""
        legend = [line for line in self.lines if line.label]
        rows = _legend_rows(legend)
        height = HEIGHT + LEGEND_ROW * len(rows)
        title = _text(WIDTH / 2, TOP - 14, self.title, anchor="middle", weight="bold")
        parts = [title, *self._axes(), *(part for line in self.lines for part in self._draw(line))]
        for number, row in enumerate(rows):
            parts += _legend_row(row, HEIGHT + 8 + LEGEND_ROW * number)
        return (
            f'<svg class="plot" aria-hidden="true" focusable="false" '
            f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="10.5" '
            f'font-family="sans-serif" fill="none">{"".join(parts)}</svg>'
        )

    def _axes(self) -> Iterator[str]:
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        for value in ticks(*self.x_range):
            across = self._across(value)
            yield _stroke(f"M{across:.1f} {TOP}V{bottom}", "currentColor", opacity=0.15)
            yield _text(across, bottom + 13, f"{value:g}", anchor="middle")
        for value in ticks(*self.y_range):
            up = self._up(value)
            yield _stroke(f"M{LEFT} {up:.1f}H{right}", "currentColor", opacity=0.15)
            yield _text(LEFT - 4, up + 3.5, f"{value:g}", anchor="end")
        yield _stroke(f"M{LEFT} {TOP}V{bottom}H{right}", "currentColor")
        yield _text((LEFT + right) / 2, bottom + 29, self.x, anchor="middle")
        middle = (TOP + bottom) / 2
        yield _text(11, middle, self.y, anchor="middle", transform=f"rotate(-90 11 {middle:.1f})")

    def _draw(self, line: Line) -> Iterator[str]:
        places = [(self._across(x), self._up(y)) for x, y in line.points]
        if line.is_drawn and places:
            path = "M" + "L".join(f"{across:.1f} {up:.1f}" for across, up in places)
            yield _stroke(path, line.colour, dash=line.dash, width=1.5)
        for (across, up), radius in zip(places, line.radii, strict=False):
            yield f'<circle cx="{across:.1f}" cy="{up:.1f}" r="{radius:.1f}" fill="{line.colour}"/>'

    def _across(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _up(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two others."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def fit_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds finite values, with a little room; around one value, too."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.05 or max(abs(low) * 0.05, 0.05)
    return low - room, high + room


def fit_shares(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds some shares, with a little room that ends at 0 and at 1."""
    low, high = fit_range(values)
    return max(low, 0.0), min(high, 1.0)


def _legend_rows(lines: Sequence[Line]) -> list[list[Line]]:
    rows: list[list[Line]] = []
    left = 0.0
    for line in lines:
        width = 36 + LETTER * len(line.label)
        if not rows or left + width > WIDTH:
            rows.append([])
            left = 0.0
        rows[-1].append(line)
        left += width
    return rows


def _legend_row(lines: Sequence[Line], up: float) -> Iterator[str]:
    left = 4.0
    for line in lines:
        if line.is_drawn:
            yield _stroke(f"M{left:.1f} {up}h20", line.colour, dash=line.dash, width=1.5)
        else:
            yield f'<circle cx="{left + 10:.1f}" cy="{up}" r="4" fill="{line.colour}"/>'
        yield _text(left + 25, up + 3.5, line.label)
        left += 36 + LETTER * len(line.label)


def _stroke(path: str, colour: str, *, dash: int = 0, width: float = 1, opacity: float = 1) -> str:
    more = f' stroke-dasharray="{DASHES[dash]}"' if DASHES[dash] else ""
    more += f' stroke-opacity="{opacity}"' if opacity < 1 else ""
    return f'<path d="{path}" stroke="{colour}" stroke-width="{width}"{more}/>'


def _text(
    left: float, up: float, text: str, *, anchor: str = "start", transform: str = "", weight: str = ""
) -> str:
    more = f' transform="{transform}"' if transform else ""
    more += f' font-weight="{weight}"' if weight else ""
    place = f'x="{left:.1f}" y="{up:.1f}" text-anchor="{anchor}"{more}'
    return f'<text {place} fill="currentColor">{escape(text)}</text>'
