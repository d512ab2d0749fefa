"""The log of a run in the bucket: pieces that a node sends while the job prints, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pipeline.engine.backends.run_files import LogPiece
from pipeline.storage import Storage

PIECE_BYTES = 4_000_000
FIRST_SECONDS, LAST_SECONDS = 2.0, 10.0  # between two pieces: of a new job, and of one that runs for long
GROWTH = 120.0  # after so many seconds a piece is sent a second later than the one before


class LogTarget(Protocol):
    """Takes the pieces of a log."""

    def write_log(self, start: int, data: bytes) -> None:
        """Write a piece."""


def pause_seconds(elapsed: float) -> float:
    """Return how long to collect a piece, so that a long log has not too many."""
    return min(LAST_SECONDS, FIRST_SECONDS + elapsed / GROWTH)


@dataclass(slots=True, kw_only=True)
class LogUpload:
    """Sends the log of an attempt; of a long one its beginning while it runs, and its end when it is over.

    Args:
        files: Take its pieces.
        limit: Most bytes to send.
        num_sent: How many it has sent.
    """

    files: LogTarget
    limit: int
    num_sent: int = 0
    num_read: int = 0
    _size: int = 0

    @property
    def _room(self) -> int:
        return max(0, self.limit // 2 - self.num_sent)

    def next_piece(self, size: int) -> tuple[int, int]:
        """Return the start and the length of what to send next of a log of this size."""
        self._size = max(self._size, size)
        return self.num_read, max(0, min(size - self.num_read, self._room, PIECE_BYTES))

    def rest(self, size: int) -> tuple[int, int]:
        """Return where the rest of a log that is complete begins, and how much before it is left out.

        Everything where there is room for it; otherwise the end.
        """
        side, largest = self.limit // 4, max(size, self._size)  # the supervisor may have cut its middle
        if size == largest and size - self.num_read <= self._room + side:
            return self.num_read, 0
        return max(0, size - side), max(0, largest - self.num_read - side)

    def send(self, data: bytes, *, num_read: int | None = None) -> None:
        """Write one piece."""
        if data:
            self.files.write_log(self.num_sent, data)
            self.num_sent += len(data)
            self.num_read += len(data) if num_read is None else num_read


def attempt_note(number: int) -> bytes:
    """Return the line between the logs of two attempts."""
    return f"\n[Attempt {number - 1} was lost. Attempt {number}:]\n".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLog:
    """The logs of all attempts of a run, one after the other.

    Args:
        attempts: The pieces of each, in order.
    """

    attempts: tuple[tuple[LogPiece, ...], ...]

    def _parts(self) -> Iterable[bytes | LogPiece]:
        for number, pieces in enumerate(self.attempts, start=1):
            if number > 1:
                yield attempt_note(number)
            yield from pieces

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return sum(len(part) if isinstance(part, bytes) else part.length for part in self._parts())

    def read(self, storage: Storage, start: int, length: int) -> bytes:
        """Return some of it; only the pieces that have it are read."""
        position, end, parts = 0, start + length, []
        for part in self._parts():
            size = len(part) if isinstance(part, bytes) else part.length
            if position < end and position + size > start:
                data = part if isinstance(part, bytes) else storage.read_bytes(part.uri)
                parts.append(data[max(0, start - position) : end - position])
            position += size
        return b"".join(parts)
