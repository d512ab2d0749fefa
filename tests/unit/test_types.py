"""What flows between the rooms is typed, and only `pipeline.artifacts` knows the layout of the bucket."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for room in ("pipeline", "plugins") for path in (ROOT / room).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}
TYPED_ROOMS = tuple(
    f"pipeline/{room}/" for room in ("artifacts", "evaluate", "deploy", "preprocess", "report", "pages")
)
CODECS = {"to_dict", "from_dict"}
MAX_UNTYPED = 300
RECORD_FILES = (
    r"(manifest\.jsonl|lineage\.json|training\.json|evaluation\.json|summary\.json|evaluated\.json|dataset\.json"
    r"|latest\.json|splits\.jsonl|decisions\.csv|takedowns\.jsonl|labels\.json|MODEL_CARD\.md|croissant\.json"
    r"|groups\.json|head\.weights\.npz|novelty\.npz|light\.json|network\.tflite)"
)
FOLDERS = r"/(blobs|datasets|packs|tests|features|weights|packages|heads|light|fetched|history|rollbacks)/"
# A path, not a sentence that names one.
PATH = re.compile(rf"^(\S*/)?{RECORD_FILES}$|^\S*{FOLDERS}\S*$")
ROUTES = ("pipeline/engine/api/", "plugins/graft/ui/")  # their literals are paths of URLs


def untyped_names() -> set[str]:
    """Return `Any`, `object`, `JsonDict` and every alias of something that holds one of them."""
    untyped, size = {"Any", "object", "JsonDict"}, 0
    while size != len(untyped):
        size = len(untyped)
        for tree in TREES.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.AnnAssign) and "TypeAlias" in ast.unparse(node.annotation):
                    if isinstance(node.target, ast.Name) and node.value and holds(node.value, untyped):
                        untyped.add(node.target.id)
    return untyped


def holds(annotation: ast.expr | None, untyped: set[str]) -> bool:
    if annotation is None:
        return False
    text = ast.unparse(annotation).replace("NDArray[Any]", "")
    return bool(set(re.findall(r"\w+", text)) & untyped)


def annotations(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield from ((node.name, argument.annotation) for argument in every)
            yield node.name, node.returns


def test_few_parameters_and_returns_are_untyped() -> None:
    untyped = untyped_names()
    count = sum(holds(annotation, untyped) for tree in TREES.values() for _, annotation in annotations(tree))
    assert 0 < count <= MAX_UNTYPED


@pytest.mark.parametrize("room", TYPED_ROOMS)
def test_rooms_hand_each_other_typed_values_only(room: str) -> None:
    untyped = untyped_names()
    assert [
        (name, function, ast.unparse(annotation))
        for name, tree in TREES.items()
        if name.startswith(room)
        for function, annotation in annotations(tree)
        if function not in CODECS and annotation is not None and holds(annotation, untyped)
    ] == []


def test_no_function_takes_a_storage_beside_a_workspace() -> None:
    assert [
        (name, node.name)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not name.startswith("pipeline/engine/")  # a product of its own, which does not import artifacts
        and {"storage", "workspace"}
        <= {argument.arg for argument in (*node.args.args, *node.args.posonlyargs, *node.args.kwonlyargs)}
    ] == []


def literals(tree: ast.Module) -> Iterator[str]:
    """Yield every string that is no docstring, an f-string as one with `{}` for its values."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_only_artifacts_knows_the_layout_of_the_bucket() -> None:  # `graft://` names Airflow assets
    assert [
        (name, literal)
        for name, tree in TREES.items()
        if not name.startswith(("pipeline/artifacts/", *ROUTES))
        for literal in literals(tree)
        if PATH.match(literal) and not literal.startswith(("http", "graft://"))
    ] == []
