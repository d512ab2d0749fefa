"""Graft's sdist and wheel, built from a copy of what they are made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pipeline", "plugins", "dags")
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "requirements.in", "LICENSE")
BUILD = """
import sys
from setuptools import build_meta
build_meta.{function}(sys.argv[1])
"""


def build_sdist(folder: Path) -> Path:
    """Build the sdist into a folder, from a copy: a build writes beside its source."""
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    _build("build_sdist", source, folder)
    return next(folder.glob("graft-*.tar.gz"))


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder from the sdist, which thus has all that a wheel is made of."""
    shutil.unpack_archive(build_sdist(folder), folder / "unpacked", filter="data")
    _build("build_wheel", next((folder / "unpacked").iterdir()), folder)
    return next(folder.glob("graft-*.whl"))


def _build(function: str, source: Path, target: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", BUILD.format(function=function), str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
