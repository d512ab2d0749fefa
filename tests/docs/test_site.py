"""The site that `make docs` builds: each page of the documentation has its place, and each place a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAV: list[Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]


def places(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from places(entry)


def test_every_page_has_one_place_and_every_place_a_page() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {page for page in pages if not page.startswith("docs/adr/0")}
    pages |= {f"docs/notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert sorted(places(NAV)) == sorted(pages | {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"})


@pytest.mark.parametrize("module", re.findall("^::: (.+)$", (ROOT / "docs" / "api.md").read_text(), re.M))
def test_every_module_of_the_reference_exists(module: str) -> None:
    assert find_spec(module) is not None
