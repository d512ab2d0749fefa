"""Rows of the v1 contract as tests: each row is a check, and the id of the test quotes the rule it checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from googleapiclient.errors import HttpError

Check = Callable[..., None]


class Table:
    """The rows of one table."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def row(self, *texts: str) -> Callable[[Check], Check]:
        """Say which rows a function checks, in the table's own words."""

        def add(check: Check) -> Check:
            self.rows += [pytest.param(check, id=text) for text in texts]
            return check

        return add


def refused(request: Any) -> Any:
    """Send a request that must be refused; return its status and error."""
    with pytest.raises(HttpError) as found:
        request.execute()
    return found.value
