"""Builds the trainer package: an sdist of what a job imports, and nothing else.

The same code gives the same bytes, so the digest of the package is the digest of the code. Standard library
only: this runs inside Airflow tasks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pipeline
from pipeline.storage import Storage

# Everything below `pipeline` that a job may import; a directory stands for all its modules.
CLOSURE = (
    *("__init__.py", "errors.py", "types.py", "storage.py", "npz.py"),
    *("pixels", "backbones", "light", "trainer"),
)
MODULE = "pipeline.trainer.task"
_MTIME = 315_532_800  # 1980-01-01, the first day that zip can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The trainer package.

    Args:
        data: A gzipped sdist.
        digest: Its SHA-256.
    """

    data: bytes
    digest: str


def build_package(root: Path | None = None) -> Package:
    """Build the sdist from the modules of a `pipeline` directory; by default the imported one."""
    root = root or Path(pipeline.__file__).parent
    name = f"graft_trainer-{_read_version(root)}"
    files = {
        f"{name}/pipeline/{path.relative_to(root).as_posix()}": path.read_bytes() for path in _modules(root)
    }
    files[f"{name}/setup.py"] = _setup_script(root).encode()
    files[f"{name}/PKG-INFO"] = (
        f"Metadata-Version: 2.1\nName: graft-trainer\nVersion: {_read_version(root)}\n".encode()
    )
    data = gzip.compress(_tar(files), mtime=0)
    return Package(data=data, digest=hashlib.sha256(data).hexdigest())


def stage_package(storage: Storage, workspace: str) -> str:
    """Upload the package unless it is there; return `<workspace>/packages/<sha256>.tar.gz`."""
    package = build_package()
    uri = f"{workspace}/packages/{package.digest}.tar.gz"
    storage.create_bytes(uri, package.data)
    return uri


def _modules(root: Path) -> list[Path]:
    found: list[Path] = []
    for entry in CLOSURE:
        found += sorted((root / entry).rglob("*.py")) if (root / entry).is_dir() else [root / entry]
    return found


def _read_version(root: Path) -> str:
    for line in (root / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.partition("=")[2].strip().strip("\"'")
    raise ValueError(f"{root / '__init__.py'} has no __version__")


def _setup_script(root: Path) -> str:
    folders = sorted({path.parent.relative_to(root.parent) for path in _modules(root)})
    packages = [folder.as_posix().replace("/", ".") for folder in folders]
    return (
        "from setuptools import setup\n\n"
        f"setup(name='graft-trainer', version='{_read_version(root)}', packages={packages})\n"
    )


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), _MTIME, 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
