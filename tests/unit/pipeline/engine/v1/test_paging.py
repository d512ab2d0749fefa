from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import pytest

from pipeline.engine.v1 import paging
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.responses import Empty


@dataclass
class Row:
    seq: int


def test_a_filter_that_takes_long_ends_the_page_early_and_the_next_page_goes_on(monkeypatch):
    monkeypatch.setattr(paging, "SCAN_SECONDS", -1)
    rows, tokens = [Row(3), Row(2), Row(1)], []
    while rows:
        page, token = Page(matches=lambda _: True).select(rows, lambda _: Empty())
        assert page == [Empty()]
        tokens.append(token)
        rows = [row for row in rows if row.seq < int(token or 9)] if token else []
    assert tokens == ["3", "2", None]


def test_a_machine_with_other_work_does_not_make_pages_shorter(monkeypatch):
    clock = itertools.count(step=1000)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    page, token = Page(matches=lambda _: True).select([Row(2), Row(1)], lambda _: Empty())
    assert (page, token) == ([Empty(), Empty()], None)


@pytest.mark.parametrize("text", ["9" * 19, "-1", "1.5", "\u0661", "1_0", " 1"])
def test_a_page_token_is_a_short_number(text):
    with pytest.raises(Exception, match="page token"):
        Page.read(None, text)
