"""Retired words stay retired: phrases of the documentation. `docs/glossary.md` has the terms to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PHRASES = re.compile(
    r"say whether|what (be)?came of|earlier life|next life|told the answer|\bnobody (has|knows)\b"
    r"|light (form|worker)|tak(e|es|ing) turns|\b(its|the) turn\b|quiet[ _]?(period|seconds)|\bstand-?ins?\b"
    r"|\b(ledger|(?<!`)sketch|recall file|retrain guard|un-grafted)\b|what (lies|is) behind"
    r"|serves? on\b|goes on\b"
    r"|\bunless said\b|\bof our own\b|\bDAGs? of (your|one's) own\b|\blooking inside\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_retired_phrase_is_left(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [f"{number}: {line.strip()}" for number, line in lines if PHRASES.search(line)] == []
