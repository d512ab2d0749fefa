"""Pages of a list: `pageSize`, `pageToken`, `filter`, and `{}` when there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from pipeline.engine.v1.filters import Matches, read_filter
from pipeline.errors import InvalidArgument

DEFAULT_SIZE, MAX_SIZE = 20, 100
MAX_SCANNED = 1000  # rows that a filter looks at for one page: others wait meanwhile


class Row(Protocol):
    """A row that has a place in its table."""

    @property
    def seq(self) -> int:
        """Its place: greater than that of every older row."""


AnyRow = TypeVar("AnyRow", bound=Row)
Query = Select[AnyRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which part of a list is asked for.

    Args:
        size: Rows in the answer.
        token: The `seq` of the last row of the page before; 0 for the first page.
        matches: Says which rows are asked for; None for all.
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
            raise InvalidArgument(
                "The page token is not one that an earlier answer gave.", field="page_token"
            )
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

    def answer(
        self, name: str, rows: Sequence[AnyRow], to_wire: Callable[[AnyRow], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the v1 answer: nothing found is an empty object.

        A page of a filtered list may be short, or even empty, and still have a next one.
        """
        shown: list[dict[str, Any]] = []
        last = 0
        for row in rows[: self._num_scanned]:
            if len(shown) == self.size:
                break
            wire, last = to_wire(row), row.seq
            if self.matches is None or self.matches(wire):
                shown.append(wire)
        answer: dict[str, Any] = {name: shown} if shown else {}
        return answer | ({"nextPageToken": str(last)} if rows and rows[-1].seq != last else {})
