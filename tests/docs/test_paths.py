"""Every file and module that a page of the documentation mentions exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
WIDTH = 100
WRITTEN_BY_COMMANDS = {"docker/.env", "docker/secrets", "docker/secrets/airflow_password"}
PATH = re.compile(r"(?<![\w./-])((?:pipeline|plugins|dags|benchmarks|tests|docs|docker)/[\w./-]*\w)")
MODULE = re.compile(r"(?<![\w./-])((?:pipeline|graft)(?:\.\w+)+)")


def exists(module: str) -> bool:
    """Return True if a prefix of the dotted name is a module that defines the rest."""
    parts = module.split(".")
    base = ROOT / "plugins" if parts[0] == "graft" else ROOT
    for length in range(len(parts), 1, -1):
        path = base.joinpath(*parts[:length])
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if source.exists() or path.is_dir():
            rest = parts[length : length + 1]
            return not rest or re.search(rf"\b{rest[0]}\b", source.read_text()) is not None
    return (
        len(parts) == 2
        and re.search(rf"\b{parts[1]}\b", (base / parts[0] / "__init__.py").read_text()) is not None
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_on_the_page_exists(page: Path) -> None:
    missing = [path for path in PATH.findall(page.read_text()) if not (ROOT / path).exists()]
    missing = [path for path in missing if path not in WRITTEN_BY_COMMANDS]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_on_the_page_exists(page: Path) -> None:
    assert [module for module in MODULE.findall(page.read_text()) if not exists(module)] == []


def long_lines(text: str) -> Iterator[str]:
    """Yield the lines of prose, outside of tables, code and pictures, that are too wide."""
    is_code = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif (
            not is_code and not line.startswith(("|", "#")) and len(line) > WIDTH and " " in line.strip(" *-")
        ):
            yield line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_wrapped(page: Path) -> None:
    assert list(long_lines(page.read_text())) == []


def long_cells(text: str) -> Iterator[str]:
    """Yield the cells of tables that are longer than two lines of prose, as they are shown."""
    for line in text.splitlines():
        if line.startswith("|"):
            shown = re.sub(r"\]\([^)]*\)", "]", line).replace("`", "")
            yield from (cell for cell in re.split(r"(?<!\\)\|", shown) if len(cell.strip()) > 2 * WIDTH)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_cell_of_a_table_is_longer_than_two_lines(page: Path) -> None:
    assert list(long_cells(page.read_text())) == []


def test_every_path_that_the_changelog_moves_to_exists() -> None:
    table = (
        (ROOT / "CHANGELOG.md")
        .read_text()
        .split("| path before | path now |\n|---|---|\n")[1]
        .split("\n\n")[0]
    )
    assert [
        path
        for row in table.splitlines()
        for path in PATH.findall(row.split("|")[2])
        if not (ROOT / path).exists()
    ] == []
