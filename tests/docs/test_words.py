"""Retired words stay retired: names in the code, and phrases of code, messages and documents.

`docs/glossary.md` has the terms to use, and the tables of `CHANGELOG.md` what each was called before.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(
    path for room in ("pipeline", "plugins", "dags", "benchmarks") for path in (ROOT / room).rglob("*.py")
)
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TEMPLATES = [path for room in ("pipeline", "plugins") for path in sorted((ROOT / room).rglob("*.html"))]
# As names of variables and parameters; a field that is a key of a record or of `--json` may be called so.
PARTICIPLES = frozenset({"found", "known", "said", "told", "given"})
RETIRED = frozenset(
    "NotLight LightService LightModel LightNetwork LightManifest light_form Lanes Gathering Servant "
    "Turn take_turn is_safe ledger SeenPicture sketch Look FileFacts NothingNew "
    "WaitForQuiet WaitForQuietOperator quiet_seconds StandIns stand_ins module_head World TheWorld "
    "Reads Trial EngineFault to_word people".split()
)
RETIRED_IN_ENGINE = frozenset({"Place", "ServedVersion"})  # elsewhere they may mean something else
MODULES = frozenset(
    "light lanes turns ledger sketch facts recall guard quiet outcome inside stand_ins module_head world "
    "reads trial verdict deployments members whole part body people".split()
)
EVERYWHERE = (
    r"say whether|what (be)?came of|earlier life|next life|lies behind|told the answer|\bnobody (has|knows)\b"
    r"|light (form|worker)|tak(e|es|ing) turns"
)
IN_PAGES = (
    r"\b(its|the) turn\b|quiet[ _]?(period|seconds)|\bstand-?ins?\b|what is behind|serves? on\b"
    r"|\bgoes on\b"
    r"|\b(ledger|(?<!`)sketch|recall file|retrain guard|un-grafted)\b|\bunless said\b|\bof our own\b"
    r"|\bDAGs? of (your|one's) own\b|\blooking inside\b"
)


def names_in(tree: ast.AST) -> Iterator[str]:
    """Yield the retired names that a module uses."""
    declared = fields(tree)
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(id=name)
                | ast.Attribute(attr=name)
                | ast.ClassDef(name=name)
                | ast.keyword(arg=str(name))
            ):
                yield from {name} & RETIRED
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from {name} & (RETIRED | PARTICIPLES)
            case ast.arg(arg=name):
                yield from {name} & (RETIRED | PARTICIPLES)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in declared:
            yield from {node.id} & PARTICIPLES


def fields(tree: ast.AST) -> list[ast.expr]:
    """Return the names that classes declare as fields."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [item.target for each in classes for item in each.body if isinstance(item, ast.AnnAssign)]


def lines_with(path: Path, phrases: str) -> list[str]:
    pattern = re.compile(phrases, re.IGNORECASE)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_retired_name_is_left() -> None:
    left = {
        (str(path.relative_to(ROOT)), name) for path in CODE for name in names_in(ast.parse(path.read_text()))
    }
    assert sorted(left) == []


def test_no_retired_name_is_left_in_the_engine() -> None:
    engine = [path for path in CODE if path.is_relative_to(ROOT / "pipeline" / "engine")]
    nodes = [(path, node) for path in engine for node in ast.walk(ast.parse(path.read_text()))]
    names = [(path.name, getattr(node, "id", getattr(node, "name", ""))) for path, node in nodes]
    assert [each for each in names if each[1] in RETIRED_IN_ENGINE] == []


def test_no_module_has_a_retired_name() -> None:
    assert [path.as_posix() for path in CODE if path.stem in MODULES] == []


def test_no_retired_phrase_is_left_in_code() -> None:
    assert [line for path in [*CODE, *TEMPLATES] for line in lines_with(path, EVERYWHERE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_retired_phrase_is_left_on_the_page(page: Path) -> None:
    assert lines_with(page, f"{EVERYWHERE}|{IN_PAGES}") == []
