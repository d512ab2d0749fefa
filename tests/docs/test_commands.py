from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli.app import app
from pipeline.cli.output import EXIT_CODES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text()


def commands(command: Any, path: str = "graft") -> Iterator[tuple[str, list[str]]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, [option for each in command.params for option in each.opts if option.startswith("--")]


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith((f"| `{command}`", f"| `{command} "))]
    missing = [option for option in COMMANDS[command] if option not in ("--json", "--help")]
    assert [option for option in missing if f"`{option}" not in row] == []


def test_the_page_has_no_command_that_is_gone() -> None:
    assert PAGE.count("| `graft ") == len(COMMANDS)


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    rows = [f"| {code.value} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    assert [line for line in PAGE.splitlines() if re.match(r"\| \d \|", line)] == rows


def test_every_command_but_one_takes_json() -> None:
    assert [name for name, options in COMMANDS.items() if "--json" not in options] == ["graft demo"]
