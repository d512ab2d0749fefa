"""The state of a stack as an older version of Graft wrote it."""

from __future__ import annotations

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).parent / "fixtures" / "home-0.1.0-42e79c2.tar.xz"


def unpack_home(home: Path) -> Path:
    """Unpack the state into a directory that does not exist yet; return it."""
    home.mkdir(parents=True, mode=0o700)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(home, filter="data")
    return home
