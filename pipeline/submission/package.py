"""Builds the trainer package: an sdist of what a job imports, and nothing else.

The same code gives the same bytes, so the digest of the package is the digest of the code. Standard library
only: this runs inside Airflow tasks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pipeline
from pipeline.artifacts.integrity import keep_addressed
from pipeline.artifacts.workspace import Workspace

# Everything below `pipeline` that a job may import; a directory stands for all its modules.
CLOSURE = (
    *("__init__.py", "errors.py", "keras_archive.py", "onnx_archive.py", "types.py", "npz.py"),
    *("artifacts/__init__.py", "artifacts/codec.py", "artifacts/formats.py", "artifacts/integrity.py"),
    "artifacts/finetuning.py",
    *("artifacts/model_files.py", "artifacts/network.py", "artifacts/pack.py", "artifacts/template.py"),
    *("artifacts/folders.py", "artifacts/held_out_answers.py", "artifacts/training.py"),
    *("artifacts/fold_answers.py", "artifacts/trial_scores.py", "artifacts/workspace.py"),
    *("storage", "pixels", "backbones", "tflite", "trainer"),
)
MODULE = "pipeline.trainer.task"
_MTIME = 315_532_800  # 1980-01-01, the first day that zip can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of a job.

    Args:
        data: A gzipped sdist.
        digest: Its SHA-256.
    """

    data: bytes
    digest: str


def build_package(root: Path | None = None) -> Package:
    """Build the sdist from the modules of a `pipeline` directory; by default the imported one."""
    root = root or Path(pipeline.__file__).parent
    return build_sdist("graft-trainer", read_version(root), read_modules(CLOSURE, root))


def build_sdist(
    name: str, version: str, files: Mapping[str, bytes], *, install_requires: Sequence[str] = ()
) -> Package:
    """Build an sdist: the same files give the same bytes.

    Args:
        name: The distribution's.
        version: The distribution's.
        files: Python modules by their path below the sdist's root.
        install_requires: Requirements that are installed with it.
    """
    root = f"{name.replace('-', '_')}-{version}"
    folders = sorted({path.rpartition("/")[0].replace("/", ".") for path in files})
    requires = f", install_requires={list(install_requires)!r}" if install_requires else ""
    setup = (
        "from setuptools import setup\n\n"
        f"setup(name={name!r}, version={version!r}, packages={folders}{requires})\n"
    )
    information = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    members = {f"{root}/{path}": data for path, data in files.items()}
    members |= {f"{root}/setup.py": setup.encode(), f"{root}/PKG-INFO": information.encode()}
    data = gzip.compress(_tar(members), mtime=0)
    return Package(data=data, digest=hashlib.sha256(data).hexdigest())


def stage_package(workspace: Workspace) -> str:
    """Upload the trainer package unless it is there; return its URI."""
    return upload_package(workspace, build_package())


def upload_package(workspace: Workspace, package: Package) -> str:
    """Upload a package unless it is there; return its URI."""
    uri = workspace.package(package.digest)
    keep_addressed(workspace.storage, uri, package.data)
    return uri


def read_modules(closure: Sequence[str], root: Path | None = None) -> dict[str, bytes]:
    """Return the modules of a closure by their path in a package, `pipeline/...`."""
    root = root or Path(pipeline.__file__).parent
    paths: list[Path] = []
    for entry in closure:
        paths += sorted((root / entry).rglob("*.py")) if (root / entry).is_dir() else [root / entry]
    return {f"pipeline/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths}


def read_version(root: Path) -> str:
    """Return the version of a `pipeline` directory."""
    for line in (root / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.partition("=")[2].strip().strip("\"'")
    raise ValueError(f"{root / '__init__.py'} has no __version__")


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), _MTIME, 0o644
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
