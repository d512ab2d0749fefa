"""The log of a job in pieces: a client follows it by asking again from where the last piece ended."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InvalidArgument

DEFAULT_LIMIT, MIN_LIMIT, MAX_LIMIT = 65_536, 4, 1_048_576  # bytes; the longest character has four


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """Which part of a log is asked for, in bytes.

    Args:
        offset: Where to begin; counted from the end when negative.
        limit: How much to read at most.
    """

    offset: int = 0
    limit: int = DEFAULT_LIMIT

    @classmethod
    def read(cls, offset: str | None, limit: str | None) -> LogRange:
        """Read the query parameters.

        Raises:
            InvalidArgument: naming the one that is wrong.
        """
        found = cls(
            offset=_whole_number(offset or "0", "offset"),
            limit=_whole_number(limit or str(DEFAULT_LIMIT), "limit"),
        )
        if not MIN_LIMIT <= found.limit <= MAX_LIMIT:
            text = f"Expected {MIN_LIMIT} to {MAX_LIMIT} bytes. Received: {found.limit}"
            raise InvalidArgument(text, field="limit")
        return found

    def start(self, size: int) -> int:
        """Return where to begin in a log that has so many bytes now."""
        return max(0, size + self.offset) if self.offset < 0 else min(self.offset, size)


def _whole_number(text: str, field: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 19):
        raise InvalidArgument(f"Expected a whole number of bytes. Received: {text[:40]!r}", field=field)
    return int(text)


def log_piece(data: bytes, start: int, *, is_last: bool) -> dict[str, Any]:
    """Return one piece of a log as the wire has it.

    Args:
        data: Bytes of the log.
        start: Their place in it.
        is_last: Whether nothing follows, now or ever.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(data, final=is_last)
    unfinished = len(decoder.getstate()[0])  # a character whose rest is not here yet
    return {"log": text, "nextOffset": str(start + len(data) - unfinished), "complete": is_last}
