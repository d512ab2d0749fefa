"""What is in an image, for `images.py`: its size, its packages, and what it must not hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from debian_base import call

ROOT = Path(__file__).resolve().parents[1]
SITE_PACKAGES = "opt/graft/.venv/lib/python3.11/site-packages"
# Where an installer keeps what it was told about a registry.
CONFIGURATION = (
    *("etc/pip.conf", "etc/xdg/pip", "root/.config", "root/.pip", "root/.netrc", "root/.cache"),
    *("etc/uv", "opt/graft/.venv/pip.conf", "opt/graft/uv.toml", "run/secrets/registry", "run/secrets/ca"),
)
REGISTRY_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX")


def check(root: Path, config: str) -> list[str]:
    """Return what an image must not hold: tools of tests, and what an installer was told.

    Args:
        root: The files of the image.
        config: Its configuration and history, as JSON.
    """
    unwanted = [f"{name}, a tool of tests" for name in sorted(test_tools() & installed(root))]
    left = [f"/{name}, of an installer" for name in CONFIGURATION if _has_text(root / name)]
    values = {os.environ[name] for name in REGISTRY_VARIABLES if os.environ.get(name)}
    told = [
        f"{name}: the address of a registry"
        for name in ("its configuration",)
        if any(v in config for v in values)
    ]
    return unwanted + left + told


def _has_text(path: Path) -> bool:
    if path.is_dir():
        return any(child.is_file() for child in path.rglob("*"))
    return path.is_file() and path.stat().st_size > 0


def test_tools() -> set[str]:
    """Return the packages that only requirements-dev.txt has, in their normal spelling."""
    dev, run, team = (_pins(f"requirements{name}.txt") for name in ("-dev", "", "-team"))
    return dev - run - team


def _pins(name: str) -> set[str]:
    return {_normal(pin) for pin in re.findall(r"^([\w.-]+)(?:\[.*\])?==", (ROOT / name).read_text(), re.M)}


def installed(root: Path) -> set[str]:
    """Return the names of the Python packages in an image."""
    return {_normal(path.name.split("-")[0]) for path in root.glob(f"{SITE_PACKAGES}/*.dist-info")}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def size(root: Path) -> int:
    """Return the bytes of an image's files."""
    return int(subprocess.check_output(["du", "-sxb", str(root)], text=True).split()[0])


def write_sbom(root: Path, target: str, tools: Path, directory: Path) -> list[Path]:
    """Write the lists of Python's and of Debian's packages in CycloneDX's format.

    Args:
        root: The files of the image.
        target: Its name.
        tools: Directory of the programs `cyclonedx-py` and `debsbom`.
        directory: Where the lists go.
    """
    python, debian = (directory / f"{target}.{kind}.cdx.json" for kind in ("python", "debian"))
    with tempfile.TemporaryDirectory() as scratch:
        # An environment whose only packages are those of the image: the image's own `python` is for a chroot.
        call(sys.executable, "-m", "venv", "--without-pip", scratch)
        for site in Path(scratch).glob("lib/python3*/site-packages"):
            (site / "image.pth").write_text(f"{root / SITE_PACKAGES}\n", encoding="utf-8")
        call(
            *(str(tools / "cyclonedx-py"), "environment", "--output-reproducible", "--of", "JSON"),
            *("-o", str(python), f"{scratch}/bin/python"),
        )
        stem = Path(scratch) / "debian"
        call(
            *(str(tools / "debsbom"), "generate", "--root", str(root), "--sbom-type", "cdx"),
            *("--distro-name", f"graft-{target}", "--out", str(stem)),
        )
        shutil.copyfile(stem.with_suffix(".cdx.json"), debian)
    return [python, debian]
