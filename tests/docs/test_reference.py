"""The pages that `make reference` writes are those of the code as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.reference import ROOT, pages

PAGES = pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_is_that_of_the_code(page: Path) -> None:
    assert page.read_text() == PAGES[page], "`make reference` writes it anew"


def test_no_other_page_is_among_them() -> None:
    assert {page for page in PAGES if page.parent.name == "yaml"} == set(
        (ROOT / "docs" / "yaml").glob("*.md")
    )
