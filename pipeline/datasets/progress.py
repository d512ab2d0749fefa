"""Lines about the progress of a fetch: counts, reasons and rates, every few seconds.

They are for people who read a task's log, and for `graft run`, which draws its bar from them.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

log = logging.getLogger(__name__)

LINE_SECONDS = 3.0
_LINE = re.compile(
    r": (?P<transferred>\d+) pictures transferred "
    r"\((?P<per_second>[\d.]+)/s(?:, (?P<megabytes>[\d.]+) MB/s)?\), "
    r"(?P<known>\d+) known already, (?P<refused>\d+) refused"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCounts:
    """The counts of one line, or those of several chunks together.

    Args:
        transferred: Pictures that were transferred.
        per_second: Of them.
        megabytes: Transferred in a second; 0 for files that are read where they are.
        known: Pictures that were not read again.
        refused: Pictures that a source names but does not give.
    """

    transferred: float = 0
    per_second: float = 0
    megabytes: float = 0
    known: float = 0
    refused: float = 0

    def __str__(self) -> str:
        speed = f", {self.megabytes:.2f} MB/s" if self.megabytes >= 0.005 else ""  # nothing crosses a network
        return (
            f"{self.transferred:.0f} pictures transferred ({self.per_second:.1f}/s{speed}), "
            f"{self.known:.0f} known already, {self.refused:.0f} refused"
        )


def read_line(line: str) -> FetchCounts | None:
    """Return the counts of a line of `Progress`, None for any other line."""
    match = _LINE.search(line)
    if match is None:
        return None
    return FetchCounts(**{name: float(value) for name, value in match.groupdict("0").items()})


def add_counts(parts: Iterable[FetchCounts]) -> FetchCounts:
    """Return the counts of chunks that are fetched side by side."""
    listed = list(parts)
    return FetchCounts(
        **{field.name: sum(getattr(part, field.name) for part in listed) for field in fields(FetchCounts)}
    )


class Progress:
    """Counts the pictures of one chunk by what was done.

    Args:
        title: Begins every line.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = self._logged_at = time.monotonic()
        self.transferred = 0
        self.reused = 0
        self.num_bytes = 0
        self.failures: Counter[str] = Counter()

    def note(self, *, reason: str | None = None, is_new: bool = False, num_bytes: int = 0) -> None:
        """Count one picture, and log a line if it is time."""
        if reason is not None:
            self.failures[reason] += 1
        elif is_new:
            self.transferred += 1
            self.num_bytes += num_bytes
        else:
            self.reused += 1
        if time.monotonic() - self._logged_at > LINE_SECONDS:
            self.log()

    def log(self) -> None:
        """Log the counts so far."""
        self._logged_at = time.monotonic()
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.failures.items()))
        log.info("%s: %s%s", self._title, self._count(), f": {reasons}" if reasons else "")

    def _count(self) -> FetchCounts:
        seconds = max(self._logged_at - self._start, 1e-3)
        return FetchCounts(
            transferred=self.transferred,
            per_second=self.transferred / seconds,
            megabytes=self.num_bytes / seconds / 1e6,
            known=self.reused,
            refused=self.failures.total(),
        )
