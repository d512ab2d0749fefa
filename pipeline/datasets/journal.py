"""What a fetch has done so far, a line a picture, so that a killed one goes on where it was.

A line is written after the picture's blob is. Where the bucket is a directory, the journal is a file of it,
which is only appended to: killing the process loses nothing; losing the machine loses what was written since
the last flush to the disk. In another bucket it is a folder of objects, each of which has some lines, so that
another machine can go on: what is lost is what was done since the last object, a few seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.artifacts.folders import DatasetFolder
from pipeline.errors import ObjectNotFound, StorageError
from pipeline.storage import Storage

log = logging.getLogger(__name__)

FLUSH_LINES = 64
FLUSH_SECONDS = 2.0
LAST_SECONDS = 10.0  # between two objects of a long fetch, of which there must not be too many
GROWTH = 120.0  # after so many seconds an object is written a second later than the one before
READERS = 8
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


class Journal(Protocol):
    """The journal of one chunk; written by many threads."""

    @property
    def lines(self) -> dict[str, JournalLine]:
        """What was done before it was opened, by address."""

    def write(self, line: JournalLine) -> None:
        """Add a line."""

    def close(self) -> None:
        """Let nothing be unwritten; the journal stays."""

    def drop(self) -> None:
        """Remove it: what it says is in the index now."""


def _encode(line: JournalLine) -> bytes:
    return json.dumps({name: getattr(line, name) for name in _FIELDS}).encode() + b"\n"


def _decode(texts: Iterable[bytes]) -> dict[str, JournalLine]:
    """Return the lines that still hold: what failed a day ago may work now."""
    lines: dict[str, JournalLine] = {}
    for text in texts:
        line = JournalLine(**json.loads(text))
        if line.reason is None or time.time() - line.time < FAILURE_LIFE_SECONDS:
            lines[line.url] = line
    return lines


class FileJournal:
    """A journal in a file.

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
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        whole, _, rest = data.rpartition(b"\n")
        if rest:
            os.truncate(self._path, len(data) - len(rest))
        return _decode(whole.splitlines())

    def write(self, line: JournalLine) -> None:
        """Add a line."""
        data = _encode(line)
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


class BucketJournal:
    """A journal in objects.

    Two machines may write it at the same time: one that was cut off comes back. Both then have lines in it.

    Args:
        storage: Reads and writes URIs.
        folder: URI of the objects.
        state: Of the chunk's index. A journal says what was done since the index was as it is, so the lines
            that a machine leaves after another one has replaced the index are of no use.
        flush_seconds: How long lines may wait to be written.
    """

    def __init__(
        self, storage: Storage, folder: str, *, state: str, flush_seconds: float = FLUSH_SECONDS
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._state = f"{folder}/{state}"
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._unwritten: list[bytes] = []
        self._opened_at = self._written_at = time.monotonic()
        self.lines = self._read()

    def _read(self) -> dict[str, JournalLine]:
        uris = self._storage.list_uris(f"{self._state}/")
        with ThreadPoolExecutor(READERS) as pool:
            return _decode(
                text for data in pool.map(self._storage.read_bytes, uris) for text in data.splitlines()
            )

    @property
    def _is_due(self) -> bool:
        now = time.monotonic()
        pause = min(LAST_SECONDS, self._flush_seconds + (now - self._opened_at) / GROWTH)
        return now - self._written_at >= pause

    def write(self, line: JournalLine) -> None:
        """Add a line; one thread in a few seconds writes those of all."""
        with self._lock:
            self._unwritten.append(_encode(line))
            if not self._is_due:
                return
            self._written_at = time.monotonic()
            lines, self._unwritten = self._unwritten, []
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        if lines:
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
            self._storage.write_bytes(f"{self._state}/{name}", b"".join(lines))

    def close(self) -> None:
        """Write what is not yet written; the journal stays."""
        with self._lock:
            lines, self._unwritten = self._unwritten, []
        try:
            self._write(lines)
        except StorageError as error:  # which is why the fetch ends, most likely
            log.warning("The last %d downloads will be made again: %s", len(lines), error)

    def drop(self) -> None:
        """Remove the objects: what they say is in the index now."""
        self._unwritten.clear()
        self._storage.delete_tree(self._folder)


def open_journal(dataset: DatasetFolder, chunk: int, num_chunks: int) -> Journal:
    """Return the journal of a chunk: in a file beside the bucket's, or in the bucket that is no directory."""
    storage, name = dataset.storage, f"{chunk:05d}-of-{num_chunks:05d}"
    if storage.is_directory(dataset.journal):
        return FileJournal(storage.scratch_path(dataset.journal) / f"{name}.jsonl")
    try:
        state = hashlib.sha256(storage.read_bytes(dataset.fetch_index(chunk))).hexdigest()
    except ObjectNotFound:
        state = "first"
    return BucketJournal(storage, f"{dataset.journal}/{name}", state=state)
