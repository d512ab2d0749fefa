from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
BOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_there_are_three() -> None:
    assert [name[:2] for name in BOOKS] == ["1_", "2_", "3_"]


@pytest.mark.parametrize("name", BOOKS)
def test_a_notebook_is_committed_without_outputs(name: str) -> None:
    cells = [cell for cell in json.loads((FOLDER / name).read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [cell for cell in cells if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.parametrize("name", BOOKS)
def test_the_suite_runs_it(name: str) -> None:
    assert f'"{name}"' in (FOLDER.parents[1] / "tests" / "e2e" / "test_notebooks.py").read_text()
