"""Replaces a classifier's YAML as a whole, and never a change that somebody else has just made."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import ConfigError


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time, and one thread, change a file of a directory: each replaces all of it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def replace_text(path: Path, old: str, new: str) -> None:
    """Replace a file as a whole.

    Raises:
        ConfigError: if the file no longer has the old text.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(new.encode())
        shutil.copymode(path, name)
        if path.read_bytes() != old.encode():
            raise ConfigError("somebody else has just changed it; try again")
        os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
