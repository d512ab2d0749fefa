"""Texts for people break between words on a terminal, and stay as they are for programs; help is plain."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from typer import rich_utils

from pipeline.cli.output import wrap
from tests.docs.test_commands import COMMANDS

LONG = "graft: flors is no classifier here; did you mean floors? Known ones: " + ", ".join(["surfaces"] * 12)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_terminal_breaks_between_words() -> None:
    lines = wrap(LONG, Terminal()).split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert " ".join(lines) == LONG


def test_what_is_no_terminal_gets_one_line() -> None:
    assert wrap(LONG, io.StringIO()) == LONG


def test_a_label_keeps_its_column() -> None:
    first, second = wrap(f"  gate       {'refused ' * 12}".rstrip(), Terminal()).split("\n")
    assert first.startswith("  gate       refused")
    assert second == "             refused refused refused refused"


def test_a_finding_keeps_its_column() -> None:
    first, second = wrap(f"ok      packages: {'requirement ' * 8}".rstrip(), Terminal()).split("\n")
    assert first.startswith("ok      packages: requirement")
    assert second.startswith("        requirement")


def test_an_address_is_never_broken() -> None:
    line = f"  report     http://127.0.0.1:8080/graft/runs/{'x' * 90}"
    assert wrap(line, Terminal()) == line


def test_lines_of_a_text_stay_apart() -> None:
    assert wrap("model:\n  epochs: 20\n", Terminal()) == "model:\n  epochs: 20\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_names_no_types_of_flags(graft: Callable[..., Any], command: str) -> None:
    text = graft(*command.split()[1:], "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "<bool>" not in text
    assert "{" not in text.split("Usage:")[1].split("\n")[0]
    assert "...." not in text


def test_each_paragraph_of_a_help_is_wrapped_anew_and_none_is_dim(graft: Callable[..., Any]) -> None:
    lines = [line.strip() for line in graft("backup", "--help").stdout.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.startswith("Only what is new"))
    assert lines[start + 1].startswith("interrupted backup leaves the target as it was")
    assert "dim" not in rich_utils.STYLE_HELPTEXT
