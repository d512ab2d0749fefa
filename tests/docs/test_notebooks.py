from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.notebook_pages import main as write_pages

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
BOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
MAX_BYTES = 600_000
OF_A_MACHINE = re.compile(r"/tmp|/root|/work|/Users|127\.0\.0\.1:\d|localhost:\d|Traceback")


def cells_of(name: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads((FOLDER / name).read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_three() -> None:
    assert [name[:2] for name in BOOKS] == ["1_", "2_", "3_"]


@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_has_the_outputs_of_a_run_from_top_to_bottom(name: str) -> None:
    cells = cells_of(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 5
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])


@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_is_small_and_says_nothing_of_a_machine(name: str) -> None:
    assert (FOLDER / name).stat().st_size < MAX_BYTES
    outputs = json.dumps([cell["outputs"] for cell in cells_of(name)])
    assert OF_A_MACHINE.findall(outputs) == []
    assert '"execution": {' not in (FOLDER / name).read_text()  # times


def test_the_site_shows_them_with_their_outputs(tmp_path: Path) -> None:
    for name in BOOKS:
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    write_pages(tmp_path)
    for name in BOOKS:
        page = (tmp_path / name).with_suffix(".md").read_text()
        assert page.count("```text\n") + page.count("![What") + page.count("<div>") >= 5
        assert all((tmp_path / file).exists() for file in re.findall(r"!\[What[^(]*\(([^)]+)\)", page))


@pytest.mark.parametrize("name", BOOKS)
def test_the_suite_runs_it(name: str) -> None:
    assert f'"{name}"' in (FOLDER.parents[1] / "tests" / "e2e" / "test_notebooks.py").read_text()
