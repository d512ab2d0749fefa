from __future__ import annotations

import ast
from pathlib import Path

from pipeline.engine.control import engine_arguments

ROOT = Path(__file__).resolve().parents[4]
DOOR = "pipeline.engine.control"


def engine_imports(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    names += [
        f"pipeline.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "pipeline"
        for alias in node.names
    ]
    return [name for name in names if f"{name}.".startswith("pipeline.engine.")]


def test_the_rest_of_graft_enters_the_engine_through_its_control_module_only() -> None:
    outside = [
        path
        for folder in ("pipeline", "plugins", "dags")
        for path in (ROOT / folder).rglob("*.py")
        if not path.is_relative_to(ROOT / "pipeline" / "engine")
    ]
    imports = {path: names for path in outside if (names := engine_imports(path))}
    assert imports, "the walk finds the imports"
    assert {name for names in imports.values() for name in names} == {DOOR}


def test_engine_arguments_start_the_module_with_host_port_and_home() -> None:
    arguments = engine_arguments(host="127.0.0.1", port=8500, home=Path("/srv/graft"))
    assert arguments == (
        *("-m", "pipeline.engine", "--host", "127.0.0.1", "--port", "8500"),
        *("--home", "/srv/graft"),
    )
