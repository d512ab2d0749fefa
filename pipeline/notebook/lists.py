"""Lists that a notebook shows as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.notebook.collection import Cell
from pipeline.notebook.html import table
from pipeline.types import JsonDict


class _Shown(list[Any]):
    """A list that a notebook shows as a table."""

    headings: tuple[str, ...]
    columns: Callable[[Any], tuple[Any, ...]]

    def _repr_html_(self) -> str:
        return table(self.headings, [type(self).columns(item) for item in self])


class JobList(_Shown):
    """Jobs, newest first."""

    headings = ("job", "state", "created", "ended")

    @staticmethod
    def columns(job: JsonDict) -> tuple[Any, ...]:
        """Return a job's cells."""
        return job["jobId"], job["state"], job.get("createTime"), job.get("endTime")


class CellList(_Shown):
    """The cells that a job would get, in order."""

    headings = ("cell", "defines")

    @staticmethod
    def columns(cell: Cell) -> tuple[Any, ...]:
        """Return a cell's cells."""
        return cell.where.removeprefix("The cell "), ", ".join(sorted(cell.names.own))
