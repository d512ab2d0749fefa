"""What commands print: with `--json` one document on stdout, otherwise text for people; notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Annotated, TypeAlias

import typer

from pipeline.errors import ConfigError
from pipeline.types import JsonValue

Cell: TypeAlias = str | int | float | None  # of a table


class ExitCode(IntEnum):
    """What a command tells its caller."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_DEPLOYED = 3


class UsageError(ConfigError):
    """The command line itself is wrong: exit code 2."""


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout; all else goes to stderr.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The classifier's name.")]


def print_json(value: JsonValue) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_text(text: str = "") -> None:
    """Print one line for people on stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Print one line on stderr: progress, warnings, errors."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print aligned columns on stdout, as wide as their content."""
    lines = [list(headings), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        padded = (value.ljust(width) for value, width in zip(line, widths, strict=True))
        print_text("  " + "   ".join(padded).rstrip())


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
