from __future__ import annotations

import webbrowser
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cli import open as module
from pipeline.cli.output import complete_name
from tests.fakes.stack import stack_status

Graft = Callable[..., Any]
URL = "http://127.0.0.1:2/graft/classifiers/surfaces"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    addresses: list[str] = []
    monkeypatch.setattr(module, "require_stack", stack_status)
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    return addresses


def test_the_page_opens_and_its_address_is_printed(graft: Graft, opened: list[str]) -> None:
    assert graft("open", "surfaces").stdout == f"{URL}\n"
    assert opened == [URL]


def test_json_is_the_address_alone(graft: Graft, opened: list[str]) -> None:
    assert graft("open", "surfaces", "--json").document == {"url": URL}
    assert opened == []


def test_a_misspelt_name_is_a_usage_error_with_a_suggestion(graft: Graft, opened: list[str]) -> None:
    outcome = graft("open", "surfacs")
    assert outcome.code == 2
    assert "did you mean `surfaces`" in outcome.stderr


@pytest.mark.usefixtures("home")
def test_the_shell_completes_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete_name("surf") == ["surfaces"]
    assert complete_name("zebra") == []
    monkeypatch.setenv("GRAFT_KEEP_VERSIONS", "none")
    assert complete_name("surf") == []
