"""The directories of a restore: filled beside those that they replace, then exchanged with them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import time
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import BackupError
from pipeline.stack.snapshot import Snapshot
from pipeline.storage import Storage

MARK = ".restore"  # in a directory that is still being filled
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Places:
    """Where the restored files go first, and where they belong.

    Args:
        settings: Where the state lives.
        storage: Knows the directory of the bucket.
        snapshot: What is restored.
    """

    def __init__(self, settings: Settings, storage: Storage, snapshot: Snapshot) -> None:
        self.storage = storage
        self.live_home = settings.home
        self.home = _staging(settings.home)
        self._pairs = [(self.home, settings.home)]
        self.bucket: Path | None = None  # None: of Google Cloud Storage
        directory = storage.directories.get(settings.bucket)
        if directory is not None and directory.is_relative_to(settings.home):
            self.bucket = self.home / directory.relative_to(settings.home)
        elif directory is not None:
            self.bucket = _staging(directory)
            if snapshot.has_bucket:
                self._pairs.insert(0, (self.bucket, directory))

    def clear(self, *, keep: str) -> None:
        """Remove what an interrupted restore of another snapshot left; what it had replaced is set aside."""
        for staged, live in self._pairs:
            (live / MARK).unlink(missing_ok=True)
            if staged.exists() and not (staged / MARK).exists():
                staged.rename(_aside(live))
            elif staged.exists() and (staged / MARK).read_text() != keep:
                shutil.rmtree(staged)
            staged.mkdir(parents=True, exist_ok=True, mode=0o700)
            (staged / MARK).write_text(keep)

    def swap(self) -> list[Path]:
        """Put the staged directories in place; return where the former ones are now."""
        previous = []
        for staged, live in self._pairs:
            if _exchange(staged, live):
                staged.rename(aside := _aside(live))
                self._bring_back(aside, live)
                if [path.name for path in aside.iterdir()] == ["stack.lock"]:  # there was no state
                    shutil.rmtree(aside)
                else:
                    previous.append(aside)
            (live / MARK).unlink()
        return previous

    def _bring_back(self, old: Path, live: Path) -> None:
        """Move buckets of the home that are no part of a backup to the new home."""
        for directory in self.storage.directories.values():
            if directory.is_relative_to(live) and not directory.exists():
                former = old / directory.relative_to(live)
                if former.exists():
                    directory.parent.mkdir(parents=True, exist_ok=True)
                    former.rename(directory)


def _staging(live: Path) -> Path:
    return live.with_name(f".{live.name}.restoring")


def _aside(live: Path) -> Path:
    return live.with_name(f"{live.name}.before-restore-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")


def _exchange(staged: Path, live: Path) -> bool:
    """Exchange two directories in one step; True if there was one to exchange with.

    Raises:
        BackupError: if the file system cannot.
    """
    if not live.exists():
        staged.rename(live)
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(staged), AT_FDCWD, os.fsencode(live), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise BackupError(
            f"{live} cannot be replaced: {os.strerror(number)}. It must not be a mount point, and its parent "
            f"must be writable. Everything is fetched to {staged}; the state before stays."
        )
    live.rename(moved := _aside(live))  # a file system without exchanges: not in one step
    staged.rename(live)
    moved.rename(staged)
    return True
