"""What is in an image, for `images.py`: its size, its packages, and what it must not hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from debian_base import call

ROOT = Path(__file__).resolve().parents[1]
SITE_PACKAGES = "opt/graft/.venv/lib/python3.11/site-packages"
# Where an installer keeps what it was told about a registry.
CONFIGURATION = (
    *("etc/pip.conf", "etc/xdg/pip", "root/.config", "root/.pip", "root/.netrc", "root/.cache"),
    *("etc/uv", "opt/graft/.venv/pip.conf", "opt/graft/uv.toml", "run/secrets/registry", "run/secrets/ca"),
)


def check(root: Path, config: str, addresses: Iterable[str]) -> list[str]:
    """Return what an image must not hold: tools of tests, and what an installer was told.

    Args:
        root: The files of the image.
        config: Its configuration and history, as JSON.
        addresses: Registries that it must not name.
    """
    unwanted = [f"{name}, a tool of tests" for name in sorted(test_tools() & installed(root))]
    left = [f"/{name}, of an installer" for name in CONFIGURATION if _has_text(root / name)]
    named = any(address in config for address in addresses)
    return unwanted + left + ["the address of a registry, in its configuration"] * named


def _has_text(path: Path) -> bool:
    if path.is_dir():
        return any(child.is_file() for child in path.rglob("*"))
    return path.is_file() and path.stat().st_size > 0


def test_tools() -> set[str]:
    """Return the packages that only requirements-dev.txt has, in their normal spelling."""
    dev, run, team = (_pins(f"requirements{name}.txt") for name in ("-dev", "", "-team"))
    return dev - run - team


def _pins(name: str) -> set[str]:
    return {
        normal_name(pin) for pin in re.findall(r"^([\w.-]+)(?:\[.*\])?==", (ROOT / name).read_text(), re.M)
    }


def installed(root: Path) -> set[str]:
    """Return the names of the Python packages in an image."""
    return {normal_name(path.name.split("-")[0]) for path in root.glob(f"{SITE_PACKAGES}/*.dist-info")}


def normal_name(name: str) -> str:
    """Return the name of a package in its one spelling."""
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
