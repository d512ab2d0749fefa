from __future__ import annotations

import ast
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pipeline
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage
from pipeline.submission.package import CLOSURE, build_package, stage_package

ROOT = Path(pipeline.__file__).parent


def modules_of(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [member for member in archive.getmembers() if "/pipeline/" in member.name]
        assert {member.mtime for member in members} == {315_532_800}
        return {m.name.partition("/")[2]: archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def test_two_builds_have_one_digest(tmp_path: Path) -> None:
    copy = tmp_path / "pipeline"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    assert build_package().digest == build_package(copy).digest


def test_a_changed_module_changes_the_digest(tmp_path: Path) -> None:
    copy = tmp_path / "pipeline"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "trainer" / "head.py").write_text("# another head\n")
    assert build_package().digest != build_package(copy).digest


def test_it_holds_the_closure_and_nothing_else() -> None:
    names = {name.removeprefix("pipeline/") for name in modules_of(build_package().data)}
    entries = {name if name in CLOSURE else name.partition("/")[0] for name in names}
    assert entries == set(CLOSURE)


def is_module(name: str) -> bool:
    path = Path(pipeline.__file__).parents[1] / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_its_modules_import_nothing_of_ours_outside_it() -> None:
    modules = modules_of(build_package().data)
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            wanted = []
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = [f"{node.module}.{alias.name}" for alias in node.names]
                wanted = [node.module, *(part for part in parts if is_module(part))]
            wanted += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in wanted:
                if module == "pipeline" or module.startswith("pipeline."):
                    path = module.replace(".", "/")
                    assert f"{path}.py" in modules or f"{path}/__init__.py" in modules, (name, module)


def test_staging_twice_uploads_once(tmp_path: Path) -> None:
    workspace = Workspace(Storage({"graft": tmp_path}), "gs://graft")
    uri = stage_package(workspace)
    assert uri == f"gs://graft/packages/{build_package().digest}.tar.gz"
    written = workspace.storage.local_path(uri).stat().st_mtime_ns
    assert stage_package(workspace) == uri
    assert workspace.storage.local_path(uri).stat().st_mtime_ns == written


def test_building_it_needs_neither_numpy_nor_tensorflow() -> None:
    code = (
        "import sys, pipeline.submission.package as p; p.build_package()\n"
        "print(sorted({'numpy', 'PIL', 'tensorflow', 'keras', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
