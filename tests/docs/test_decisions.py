"""The decisions of docs/adr: each has a number of its own, which its title and the index say."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "adr"
PAGES = sorted(FOLDER.glob("0*.md"))


def test_every_decision_has_a_number_of_its_own_and_a_line_of_the_index() -> None:
    numbers = [int(page.name[:4]) for page in PAGES]
    assert numbers == list(range(1, len(PAGES) + 1))
    assert [page.read_text().split(".")[0] for page in PAGES] == [f"# {number}" for number in numbers]
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| \S", (FOLDER / "README.md").read_text(), re.M)
    assert listed == [(str(number), page.name) for number, page in zip(numbers, PAGES, strict=True)]
