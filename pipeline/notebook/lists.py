"""Lists that a notebook shows as tables."""

from __future__ import annotations

from pipeline.ml_engine.resources import Job
from pipeline.notebook import collection
from pipeline.notebook.html import table


class JobList(list[Job]):
    """Jobs, newest first."""

    def _repr_html_(self) -> str:
        rows = [(job["jobId"], job["state"], job.get("createTime"), job.get("endTime")) for job in self]
        return table(("job", "state", "created", "ended"), rows)


class CellList(list[collection.Cell]):
    """The cells that a job would get, in order."""

    def _repr_html_(self) -> str:
        rows = [(cell.where.removeprefix("The cell "), ", ".join(sorted(cell.names.own))) for cell in self]
        return table(("cell", "defines"), rows)
