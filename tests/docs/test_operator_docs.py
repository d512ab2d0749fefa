"""Every operator and its arguments are on the page; read from the source, so that no Airflow is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = ROOT / "plugins" / "graft" / "operators"
PAGE = (ROOT / "docs" / "operators.md").read_text()
SHARED = {"V1JobOperator", "V1VersionOperator"}  # named by none: what others are made of
PRIVATE = {"self", "arguments"}


def operators() -> Iterator[tuple[str, set[str]]]:
    for path in [*sorted((OPERATORS / "mlengine").glob("*.py")), OPERATORS / "release.py"]:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name not in SHARED:
                yield node.name, set(arguments_of(node))


def arguments_of(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield from (argument.arg for argument in item.args.kwonlyargs)


DOCUMENTED = {name: arguments for name, arguments in operators() if not name.startswith("Prediction")}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_operator_is_on_the_page_with_its_arguments(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
    missing = {argument for argument in DOCUMENTED[name] - PRIVATE if f"`{argument}`" not in row}
    assert missing == set()


def test_the_provider_and_the_sweep_are_on_the_page() -> None:
    assert "`engine_sweep`" in PAGE
    assert "`ml_engine`" in PAGE
