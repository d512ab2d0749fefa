"""The log of a job in pieces: a client follows it by reading on where the last piece ended."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from pipeline.engine.v1.responses import JobLog
from pipeline.errors import InvalidArgument

DEFAULT_LIMIT, MIN_LIMIT, MAX_LIMIT = 65_536, 4, 1_048_576  # bytes; the longest character has four


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """A part of a log, in bytes.

    Args:
        offset: Where it begins; counted from the end if negative.
        limit: Most bytes to read.
    """

    offset: int = 0
    limit: int = DEFAULT_LIMIT

    @classmethod
    def read(cls, offset: str | None, limit: str | None) -> LogRange:
        """Read the query parameters.

        Raises:
            InvalidArgument: naming the one that is wrong.
        """
        part = cls(
            offset=_whole_number(offset or "0", "offset"),
            limit=_whole_number(limit or str(DEFAULT_LIMIT), "limit"),
        )
        if not MIN_LIMIT <= part.limit <= MAX_LIMIT:
            text = f"Expected {MIN_LIMIT} to {MAX_LIMIT} bytes. Received: {part.limit}"
            raise InvalidArgument(text, field="limit")
        return part

    def start(self, size: int) -> int:
        """Return the absolute offset in a log of this size."""
        return max(0, size + self.offset) if self.offset < 0 else min(self.offset, size)


def _whole_number(text: str, field: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 19):
        raise InvalidArgument(f"Expected a whole number of bytes. Received: {text[:40]!r}", field=field)
    return int(text)


def log_piece(data: bytes, start: int, *, is_last: bool) -> JobLog:
    """Return one piece of a log as the v1 resource.

    Args:
        data: Bytes of the log.
        start: Their offset in it.
        is_last: Whether nothing will follow.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(data, final=is_last)
    unfinished = len(decoder.getstate()[0])  # bytes of a character that is not complete yet
    return JobLog(log=text, next_offset=str(start + len(data) - unfinished), complete=is_last)
