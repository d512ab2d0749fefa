"""The rules of the design that a later change could break without any other test noticing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).resolve().parents[2]
TENSORFLOW_HOMES = (
    "pipeline/pixels/graph.py",
    "pipeline/backbones/networks/",
    "pipeline/trainer/",
    "pipeline/engine/serving/",
)
# A room may import itself and the rooms named here: dependencies point down only.
ROOMS = {
    "errors": set(),
    "types": set(),
    "ml_v1": set(),
    "storage": {"errors", "types"},
    "npz": {"errors", "types"},
    "artifacts": {"errors", "types", "storage"},
    "config": {"errors", "types", "storage"},
    "pixels": {"errors", "types"},
    "backbones": {"errors", "types", "storage", "npz", "pixels"},
    "tflite": {"errors", "types", "npz", "pixels"},
    "trainer": {"errors", "types", "storage", "npz", "pixels", "backbones", "tflite"},
    "submission": {"errors", "types", "storage", "artifacts", "npz", "backbones", "trainer"},
    "datasets": {"errors", "types", "storage", "artifacts", "npz", "pixels", "config"},
    "preprocess": {"errors", "types", "storage", "artifacts", "npz", "pixels", "config", "datasets"},
    "evaluate": {"errors", "types", "storage", "artifacts", "config", "datasets", "preprocess"},
    "report": {"errors", "types", "storage", "artifacts", "npz", "pixels", "preprocess", "deploy", "explain"},
    "ml_engine": {"errors", "types", "ml_v1"},
    "deploy": {
        *("errors", "types", "storage", "artifacts", "config", "ml_engine", "evaluate", "preprocess"),
        *("submission", "ml_v1"),
    },
    "explain": {
        *("errors", "types", "storage", "artifacts", "npz", "pixels", "backbones", "ml_engine", "deploy"),
    },
    "engine": {"errors", "types", "ml_v1", "storage", "config", "pixels", "tflite"},
    "notebook": {
        *("errors", "types", "config", "storage", "artifacts", "trainer", "submission", "stack", "ml_engine"),
        *("explain", "report", "deploy", "cli", "ml_v1"),
    },
    "pages": {
        *("errors", "types", "storage", "artifacts", "config", "preprocess", "pixels", "evaluate", "report"),
        *("explain", "ml_engine", "deploy"),
    },
    "stack": {"errors", "types", "config", "storage", "engine"},
    "provider": {"types"},
}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path, *, module_level: bool) -> Iterator[str]:
    """Yield imported module names; with module_level only those that run at import."""
    todo: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif module_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        else:
            todo.extend(ast.iter_child_nodes(node))


def test_the_imported_pipeline_is_this_repository() -> None:
    assert Path(pipeline.__file__).parent == ROOT / "pipeline"


def test_pipeline_knows_no_airflow_and_no_plugin() -> None:
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for path in python_files("pipeline")
        for name in imports_of(path, module_level=False)
        if name.split(".")[0] in ("airflow", "graft")
    ]
    assert found == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_room_imports_only_rooms_below_it(room: str) -> None:
    base = ROOT / "pipeline" / room
    files = python_files(f"pipeline/{room}") if base.is_dir() else [base.with_suffix(".py")]
    assert files
    allowed = ROOMS[room] | {room}
    found = []
    for path in files:
        for name in imports_of(path, module_level=False):
            parts = name.split(".")
            if (
                parts[0] == "pipeline"
                and len(parts) > 1
                and parts[1] != "__version__"
                and parts[1] not in allowed
            ):
                found.append((path.relative_to(ROOT).as_posix(), name))
    assert found == []


def test_every_room_has_a_rule() -> None:
    rooms = {
        path.stem
        for path in (ROOT / "pipeline").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "cli"} == set(ROOMS)


def test_tensorflow_is_imported_only_in_its_homes() -> None:
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for folder in ("pipeline", "plugins", "dags")
        for path in python_files(folder)
        for name in imports_of(path, module_level=False)
        if name.split(".")[0] in ("tensorflow", "keras")
        and not path.relative_to(ROOT).as_posix().startswith(TENSORFLOW_HOMES)
    ]
    assert found == []


def test_dags_and_plugins_import_nothing_heavy_at_module_level() -> None:
    heavy = ("tensorflow", "keras", "numpy", "PIL", "ray", "sklearn", "skimage", "googleapiclient", "scipy")
    found = [
        (path.relative_to(ROOT).as_posix(), name)
        for folder in ("plugins", "dags")
        for path in python_files(folder)
        for name in imports_of(path, module_level=True)
        if name.split(".")[0] in heavy
    ]
    assert found == []


def test_airflow_sees_one_plugin_file_and_ignores_the_package() -> None:
    ignored = (ROOT / "plugins" / ".airflowignore").read_text().split()
    assert ignored == ["graft/"]
    assert [path.name for path in (ROOT / "plugins").glob("*.py")] == ["graft_plugin.py"]


@pytest.mark.parametrize(
    "module",
    [
        "pipeline.config",
        "pipeline.cli",
        "pipeline.stack",
        "pipeline.engine.api.app",
        "pipeline.explain",
        "pipeline.notebook",
    ],
)
def test_light_module_loads_no_heavy_library(module: str) -> None:
    heavy = ("tensorflow", "keras", "airflow", "sklearn", "skimage")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr
