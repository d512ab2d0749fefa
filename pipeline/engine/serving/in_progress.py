"""Which requests a process was working on when it crashed: only those may be the cause.

Each thread of the process writes the numbers of the requests that it begins into a place of its own in a
file. Who started the process reads it when it has crashed; the other requests are sent again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

FILE = "in-progress"
NUMBER = struct.Struct("<I")


class InProgress:
    """The file, on the side of the process.

    Args:
        path: The file.
        num_threads: How many threads write.
        max_requests: How many requests a thread begins at once, at most.
    """

    def __init__(self, path: Path, *, num_threads: int, max_requests: int) -> None:
        self._size = NUMBER.size * (max_requests + 1)
        path.write_bytes(NUMBER.pack(self._size) + bytes(self._size * num_threads))
        self._file = os.open(path, os.O_WRONLY)

    def begin(self, thread: int, requests: Sequence[int]) -> None:
        """Write what a thread begins; what it began before is done."""
        numbers = struct.pack(f"<{len(requests) + 1}I", len(requests), *requests)
        os.pwrite(self._file, numbers, NUMBER.size + thread * self._size)


def read_in_progress(path: Path) -> frozenset[int] | None:
    """Return the requests that the threads of a process began last; None if it kept no such file."""
    try:
        data = path.read_bytes()
        (size,) = NUMBER.unpack_from(data)
        numbers: set[int] = set()
        for start in range(NUMBER.size, len(data), size):
            (count,) = NUMBER.unpack_from(data, start)
            numbers.update(struct.unpack_from(f"<{count}I", data, start + NUMBER.size))
    except (OSError, struct.error, ValueError):
        return None
    return frozenset(numbers)
