"""What a fetch has done so far, a line a picture, so that a killed one goes on where it was.

The file is only appended to. A line is complete or it is not read; it is written after the picture's blob is.
Killing the process loses nothing; losing the machine loses what was written since the last flush to the disk.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

FLUSH_LINES = 64
FLUSH_SECONDS = 2.0
FAILURE_LIFE_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """The outcome of one address.

    Args:
        url: The address, without secrets.
        blob: SHA-256 of the picture file; None if there is none.
        etag: What its server calls this state of the file.
        last_modified: When its server says that the file was made.
        retrieved_at: When it was read.
        reason: The fetch reason, if there is no picture.
        time: Seconds since 1970.
        requests: How many it took.
        levels: The highest level of a file of 16-bit levels.
    """

    url: str
    blob: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    retrieved_at: str = ""
    reason: str | None = None
    time: float = 0.0
    requests: int = 0
    levels: int | None = None


_FIELDS = tuple(field.name for field in fields(JournalLine))


class Journal:
    """The journal of one chunk; written by many threads.

    Args:
        path: The file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._unflushed = 0
        self._flushed_at = time.monotonic()
        self.lines = self._read()

    def _read(self) -> dict[str, JournalLine]:
        lines: dict[str, JournalLine] = {}
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return lines
        whole, _, rest = data.rpartition(b"\n")
        if rest:
            os.truncate(self._path, len(data) - len(rest))
        for text in whole.splitlines():
            line = JournalLine(**json.loads(text))
            if line.reason is None or time.time() - line.time < FAILURE_LIFE_SECONDS:
                lines[line.url] = line
        return lines

    def write(self, line: JournalLine) -> None:
        """Add a line."""
        data = json.dumps({name: getattr(line, name) for name in _FIELDS}).encode() + b"\n"
        with self._lock:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)
            self._unflushed += 1
            now = time.monotonic()
            if self._unflushed >= FLUSH_LINES or now - self._flushed_at > FLUSH_SECONDS:
                os.fsync(self._file.fileno())
                self._unflushed, self._flushed_at = 0, now

    def close(self) -> None:
        """Flush and close; the file stays."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None

    def drop(self) -> None:
        """Remove the file: what it says is in the index now."""
        self.close()
        self._path.unlink(missing_ok=True)
