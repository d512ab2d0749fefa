"""What commands print: with `--json` one document on stdout, otherwise text for people; notes on stderr."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from enum import IntEnum
from typing import Annotated, TextIO, TypeAlias

import typer

from pipeline.errors import ConfigError
from pipeline.types import JsonValue

Cell: TypeAlias = str | int | float | None  # of a table
FEWEST_WORDS = 3  # of a line that is broken: two are a label and an address
_LABEL = re.compile(r" *(\S+ {2,})?")  # `  gate       `, or the spaces before a line


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_DEPLOYED = 3


EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.ERROR: "an error, a failed run, or Ctrl-C; `doctor`: a check failed; "
    "`predict`: no file was answered",
    ExitCode.USAGE: "wrong usage of the command line",
    ExitCode.NOT_DEPLOYED: "nothing was deployed, by decision: the gate refused, the data gate skipped "
    "the run, a person rejected it, or it was superseded",
}


class UsageError(ConfigError):
    """The command line itself is wrong: exit code 2."""


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout; all else goes to stderr.")
]


def complete_name(incomplete: str) -> list[str]:
    """Return the names of classifiers that begin like this, for the shell."""
    from pipeline.config import Settings, classifier_files

    try:
        names = {path.stem for path in classifier_files(Settings())}
    except ConfigError:  # the command itself will tell
        return []
    return sorted(name for name in names if name.startswith(incomplete))


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The classifier's name.", autocompletion=complete_name)
]


def print_json(value: JsonValue) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_text(text: str = "") -> None:
    """Print a line for people on stdout; on a terminal it breaks between words."""
    print_line(wrap(text, sys.stdout))


def print_line(text: str) -> None:
    """Print a line on stdout as it is, however wide: a row of a table, a line of a log, a piece of YAML."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Print one line on stderr: progress, warnings, errors. On a terminal it breaks between words."""
    sys.stderr.write(f"{wrap(text, sys.stderr)}\n")
    sys.stderr.flush()


def wrap(text: str, stream: TextIO) -> str:
    """Break the lines of a text between words where they are wider than the terminal.

    What is not a terminal gets the text as it is, for programs read it line by line.

    Args:
        text: The text; what follows a line's first word keeps its place: `  gate       refused`.
        stream: Where it goes.
    """
    if not stream.isatty():
        return text
    columns = shutil.get_terminal_size((80, 24)).columns
    return "\n".join(_wrap_line(line, columns) for line in text.split("\n"))


def _wrap_line(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    match = _LABEL.match(line)
    indent = len(match[0]) if match else 0
    if len(line.split()) < FEWEST_WORDS:
        return line
    return "\n".join(
        textwrap.wrap(
            line,
            columns,
            subsequent_indent=" " * indent,
            replace_whitespace=False,
            drop_whitespace=True,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
