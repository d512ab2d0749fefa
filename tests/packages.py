"""Python packages made in memory: sdists and wheels for training jobs."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable


def sdist(files: dict[str, str], *, folder: str = "tiny-1") -> bytes:
    """A tar.gz of these files below one folder."""
    return tar_gz({f"{folder}/{name}": text for name, text in files.items()})


def tar_gz(files: dict[str, str], *more: tarfile.TarInfo) -> bytes:
    """A tar.gz of these files, and of members without content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        for entry in more:
            archive.addfile(entry)
    return data.getvalue()


def wheel(name: str, files: dict[str, str], *, version: str = "1", requires: Iterable[str] = ()) -> bytes:
    """A pure wheel; its file is `<name>-<version>-py3-none-any.whl`."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {text}" for text in requires]
    tags = ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    members = files | {f"{info}/METADATA": "\n".join(metadata), f"{info}/WHEEL": "\n".join(tags)}
    members[f"{info}/RECORD"] = "\n".join(f"{member},," for member in [*members, f"{info}/RECORD"])
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text + "\n")
    return data.getvalue()
