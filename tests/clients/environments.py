"""Environments with original clients, made once and kept in `GRAFT_TEST_CLIENTS`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import PROJECT_ROOT

# A team's environment has none of its own.
_UVS = Path(sys.executable).with_name("uv"), PROJECT_ROOT / ".venv" / "bin" / "uv"
UV = next((path for path in _UVS if path.exists()), _UVS[0])


@dataclass(frozen=True, kw_only=True)
class ClientEnvironment:
    """What one client needs.

    Args:
        name: Of its directory.
        requirements: Of pip.
        alone: Requirements that are installed without what they require in turn.
        newest: The day after which nothing that was released counts; empty for today.
    """

    name: str
    requirements: tuple[str, ...]
    alone: tuple[str, ...] = ()
    newest: str = ""

    def python(self) -> Path:
        """Return its interpreter, and make the environment first if need be."""
        directory = clients_directory() / f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"
        python, ready = directory / "bin" / "python", directory / "ready"
        if not ready.exists():
            _uv("venv", "--clear", "--python", sys.executable, str(directory))
            install = ("pip", "install", "--python", str(python))
            newest = ("--exclude-newer", self.newest) if self.newest else ()
            _uv(*install, *newest, *self.requirements)
            if self.alone:
                _uv(*install, *newest, "--no-deps", *self.alone)
            ready.touch()
        return python


def clients_directory() -> Path:
    """Return where the environments are."""
    return Path(os.environ.get("GRAFT_TEST_CLIENTS") or Path(tempfile.gettempdir()) / "graft-test-clients")


def _uv(*words: str) -> None:
    run = subprocess.run([UV, "--quiet", *words], capture_output=True, text=True, timeout=550)
    assert run.returncode == 0, f"uv {' '.join(words)}: {run.stderr[-2000:]}"


AIRFLOW = ClientEnvironment(
    name="airflow",
    requirements=("apache-airflow==2.10.5", "apache-airflow-providers-google==10.26.0"),
    newest="2025-02-15",
)
TFX = ClientEnvironment(
    name="tfx",
    requirements=(
        "absl-py<2",
        "google-api-python-client<2",
        "google-cloud-aiplatform<2",
        "tensorflow==2.21.0",
    ),
    alone=("tfx==1.21.0",),
)
MAGIC = ClientEnvironment(
    name="magic", requirements=("cloudmlmagic==0.0.5", "oauth2client==4.1.3", "ipython", "setuptools<81")
)
