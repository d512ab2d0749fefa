"""What commands print: with `--json` one document on stdout, otherwise text for people; notes on stderr."""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import Annotated, TypeAlias

import typer

from pipeline.errors import ConfigError
from pipeline.types import JsonValue

Cell: TypeAlias = str | int | float | None  # of a table


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
    """Print one line for people on stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Print one line on stderr: progress, warnings, errors."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
