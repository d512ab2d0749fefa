"""What a machine can run out of, named as such."""

from __future__ import annotations

import errno

FULL = "The disk of the engine is full, or has no inodes left; free some space and try again."
NO_FILES = "The engine has no file descriptors left; try again, or raise `ulimit -n`."
NO_MEMORY = "The engine has no memory left; try again with less at a time."
READ_ONLY = "The disk of the engine is read-only."
BY_NUMBER = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EMFILE: NO_FILES,
    errno.ENFILE: NO_FILES,
    errno.ENOMEM: NO_MEMORY,
    errno.EAGAIN: "The engine cannot start more processes or threads; try again.",
    errno.EROFS: READ_ONLY,
}
BY_TEXT = {  # of SQLite, which has no errno
    "disk is full": FULL,
    "disk I/O error": "The disk of the engine cannot be written or read; it may be full.",
    "unable to open database file": "The engine's database cannot be opened: no descriptors, or no disk.",
    "readonly database": READ_ONLY,
}


def shortage(error: BaseException | None) -> str | None:
    """Return which shortage is behind an error, or behind what caused it; None if it is something else."""
    while error is not None:
        if isinstance(error, MemoryError):
            return NO_MEMORY
        if isinstance(error, OSError) and error.errno in BY_NUMBER:
            return BY_NUMBER[error.errno]
        for text, meaning in BY_TEXT.items():
            if text in str(error):
                return meaning
        error = error.__cause__ or error.__context__
    return None


def engine_failed(error: BaseException) -> str:
    """Return what a client is told of an error that is not its own: the shortage behind it, or the log."""
    return shortage(error) or "The engine failed; see its log."
