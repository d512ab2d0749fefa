"""The rules of the design that `lint-imports` cannot express: of files in no package, and of run time."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).resolve().parents[2]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_imported_pipeline_is_this_repository() -> None:
    assert Path(pipeline.__file__).parent == ROOT / "pipeline"


def test_what_airflow_loads_is_wiring_and_imports_only_airflow_and_our_plugins() -> None:
    files = [*(ROOT / "dags").glob("*.py"), ROOT / "plugins" / "graft_plugin.py"]
    imported = {name.split(".")[0] for path in files for name in imports_of(path)}
    assert imported - sys.stdlib_module_names == {"airflow", "graft"}


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
    heavy = ("tensorflow", "keras", "airflow", "sklearn", "skimage", "optuna")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_no_function_has_more_than_fifty_lines() -> None:
    files = [path for room in ("pipeline", "plugins", "dags") for path in sorted((ROOT / room).rglob("*.py"))]
    functions = (
        (path, node)
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = {node.name for _, node in functions if (node.end_lineno or 0) - node.lineno >= 50}
    assert long == {"create_evaluate_ops"}  # an old API dictates its parameters
