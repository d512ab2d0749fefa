"""Lines that say how a fetch goes: counts, reasons and rates, every few seconds."""

from __future__ import annotations

import logging
import time
from collections import Counter

log = logging.getLogger(__name__)

LINE_SECONDS = 5.0


class Progress:
    """Counts what became of the pictures of one chunk.

    Args:
        title: Begins every line.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = self._said_at = time.monotonic()
        self.transferred = 0
        self.reused = 0
        self.num_bytes = 0
        self.failures: Counter[str] = Counter()

    def note(self, *, reason: str | None = None, is_new: bool = False, num_bytes: int = 0) -> None:
        """Count one picture, and say a line if it is time."""
        if reason is not None:
            self.failures[reason] += 1
        elif is_new:
            self.transferred += 1
            self.num_bytes += num_bytes
        else:
            self.reused += 1
        if time.monotonic() - self._said_at > LINE_SECONDS:
            self.say()

    def say(self) -> None:
        """Say how it goes."""
        self._said_at = time.monotonic()
        seconds = max(self._said_at - self._start, 1e-3)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.failures.items()))
        log.info(
            "%s: %d pictures transferred (%.1f/s, %.2f MB/s), %d known already, %d refused%s",
            self._title,
            self.transferred,
            self.transferred / seconds,
            self.num_bytes / seconds / 1e6,
            self.reused,
            self.failures.total(),
            f": {reasons}" if reasons else "",
        )
