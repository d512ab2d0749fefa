"""Pages of a list: `pageSize`, `pageToken` and `filter`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from pipeline.engine.v1.fields import Message
from pipeline.engine.v1.filters import Matches, read_filter
from pipeline.errors import InvalidArgument

DEFAULT_SIZE, MAX_SIZE = 20, 100
MAX_SCANNED = 1000  # rows that a filter looks at for one page: others wait meanwhile
SCAN_SECONDS = 0.2  # of CPU, after which a filtered page ends early: it runs on the event loop


class Row(Protocol):
    """A row with a position in its table."""

    @property
    def seq(self) -> int:
        """Greater than that of every older row."""


AnyRow = TypeVar("AnyRow", bound=Row)
AnyResource = TypeVar("AnyResource", bound=Message)
Query = Select[AnyRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The part of a list that is requested.

    Args:
        size: Most rows of the page.
        token: The `seq` of the last row of the previous page; 0 for the first page.
        matches: Selects the rows of a filtered list; None for all.
    """

    size: int = DEFAULT_SIZE
    token: int = 0
    matches: Matches | None = None

    @classmethod
    def read(cls, size: str | None, token: str | None, filter_text: str | None = None) -> Page:
        """Read the query parameters.

        Raises:
            InvalidArgument: naming the one that is wrong.
        """
        if size is not None and not (size.isdecimal() and size.isascii()):
            raise InvalidArgument(f"Expected a number, 0 or more. Received: {size[:40]!r}", field="page_size")
        if token and not (token.isdecimal() and token.isascii() and len(token) < 19):
            raise InvalidArgument("The page token is not one of an earlier response.", field="page_token")
        return cls(
            size=min(int((size or "0")[:9]) or DEFAULT_SIZE, MAX_SIZE),
            token=int(token or 0),
            matches=read_filter(filter_text),
        )

    @property
    def _num_scanned(self) -> int:
        return self.size if self.matches is None else MAX_SCANNED

    def ascending(self, query: Query[AnyRow], seq: InstrumentedAttribute[int]) -> Query[AnyRow]:
        """Return the query for this page, oldest rows first, and one row more than it shows."""
        return query.where(seq > self.token).order_by(seq).limit(self._num_scanned + 1)

    def descending(self, query: Query[AnyRow], seq: InstrumentedAttribute[int]) -> Query[AnyRow]:
        """Return the query for this page, newest rows first."""
        query = query.where(seq < self.token) if self.token else query
        return query.order_by(seq.desc()).limit(self._num_scanned + 1)

    def select(
        self, rows: Sequence[AnyRow], to_resource: Callable[[AnyRow], AnyResource]
    ) -> tuple[list[AnyResource] | None, str | None]:
        """Return the resources of the page and the token of the next one; None where v1 shows nothing.

        A page of a filtered list may be short, or even empty, and still have a next one.
        """
        resources: list[AnyResource] = []
        last, deadline = 0, time.thread_time() + SCAN_SECONDS
        for row in rows[: self._num_scanned]:
            if len(resources) == self.size or (last and self.matches and time.thread_time() > deadline):
                break
            resource, last = to_resource(row), row.seq
            if self.matches is None or self.matches(resource.to_json()):
                resources.append(resource)
        has_next = bool(rows) and rows[-1].seq != last
        return resources or None, str(last) if has_next else None
