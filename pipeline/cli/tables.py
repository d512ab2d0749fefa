"""Tables that fit the terminal: ids, times and paths are shortened, unless `--wide` asks for all of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipeline.cli.output import Cell, print_line

WideOption = Annotated[
    bool, typer.Option("--wide", help="Shorten nothing: every column, ids, times and paths.")
]
NARROWEST = 8  # columns are not shortened further
INDENT, GAP = "  ", "   "
_RUN_ID = re.compile(r"([a-z_]+)__(\d{4}-\d\d-\d\d)T(\d\d:\d\d)")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


class RunId(str):
    """A run id: `manual__2026-01-02T03:04:05.678901+00:00` is shown as `manual 2026-01-02 03:04`."""

    __slots__ = ()


class Moment(str):
    """A time in ISO 8601: shown as how long ago it was."""

    __slots__ = ()


class PathText(str):
    """A path or an address: shortened at its beginning."""

    __slots__ = ()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, wide: bool = False) -> None:
    """Print aligned columns on stdout; unless wide they fit the terminal, or else 80 columns.

    Args:
        headings: Of the columns.
        rows: The cells.
        wide: Shorten nothing.
    """
    content = [list(row) for row in rows]
    lines = [list(headings), *([_text(cell, wide) for cell in row] for row in content)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if not wide:
        widths = fit(widths, [_can_shrink(column) for column in zip(*content, strict=True)])
    for number, line in enumerate(lines):
        cells = content[number - 1] if number else [""] * len(line)
        shortened = [
            shorten(text, width, at_start=isinstance(cell, PathText)).ljust(width)
            for text, width, cell in zip(line, widths, cells, strict=True)
        ]
        print_line(INDENT + GAP.join(shortened).rstrip())


def fit(widths: Sequence[int], shrinks: Sequence[bool]) -> list[int]:
    """Return widths of columns that fit the terminal, the widest shortened first."""
    fitted = list(widths)
    room = shutil.get_terminal_size((80, 24)).columns - len(INDENT) - len(GAP) * (len(widths) - 1)
    while sum(fitted) > room:
        widest = max(
            (number for number, shrink in enumerate(shrinks) if shrink and fitted[number] > NARROWEST),
            key=fitted.__getitem__,
            default=None,
        )
        if widest is None:
            break
        fitted[widest] -= 1
    return fitted


def _can_shrink(column: Sequence[Cell]) -> bool:
    """Numbers stay whole; a table without rows has nothing to shorten."""
    return any(isinstance(cell, str) for cell in column)


def shorten(text: str, width: int, *, at_start: bool = False) -> str:
    """Return a text of at most so many characters, with an ellipsis for what is left out."""
    if len(text) <= width:
        return text
    return f"…{text[-(width - 1) :]}" if at_start else f"{text[: width - 1]}…"


def _text(value: Cell, wide: bool) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Moment):
        return moment(value) if wide else ago(value)
    if isinstance(value, RunId) and not wide:
        match = _RUN_ID.match(value)
        return " ".join(match.groups()) if match else str(value)
    return str(value)


def moment(text: str) -> str:
    """Return a time without fractions of a second, in UTC."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def ago(text: str, *, now: datetime | None = None) -> str:
    """Return how long ago a time was."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"
