"""Small pieces of HTML that take the notebook's own colours, so that they read in light and in dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from pipeline.cli.output import Cell

# Middle tones: enough contrast on white and on black alike.
SERIES = ("#2f7fe0", "#c26a00", "#2a9147", "#9a6be0")


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table; everything in it is text."""
    head = "".join(f'<th style="text-align: left">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align: left; overflow-wrap: anywhere">{cell(value)}</td>' for value in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell(value: Cell) -> str:
    """Return a value as text: four digits, yes and no, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(f"{value:.4f}" if isinstance(value, float) else str(value))


def coloured(svg: str) -> str:
    """Return a drawing of the report with its series in colours of its own."""
    style = "; ".join(f"--series-{number}: {colour}" for number, colour in enumerate(SERIES, start=1))
    return f'<div style="{style}; max-width: 30rem">{svg}</div>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A picture as a data URI, and the text below it."""

    image: str
    caption: str


def pictures(cards: Iterable[Captioned]) -> str:
    """Return pictures beside each other."""
    shown = "".join(
        '<figure style="display: inline-block; margin: 0 .5rem .5rem 0; width: 6rem; vertical-align: top">'
        f'<img src="{escape(card.image)}" alt="" style="width: 6rem; height: 6rem; object-fit: cover">'
        f'<figcaption style="font-size: 80%; overflow-wrap: anywhere">{escape(card.caption)}</figcaption>'
        "</figure>"
        for card in cards
    )
    return f"<div>{shown}</div>"
