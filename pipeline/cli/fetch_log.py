"""How the downloads of a run go, read from the logs of its fetch tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pipeline.airflow_api import AirflowApi, TaskInstance
from pipeline.datasets.progress import FetchCounts, add_counts, read_line

STAGE = "fetch"
POLL_SECONDS = 2.0


class FetchLog:
    """The last counts of each fetch task, one log a task, read every two seconds while it runs.

    Args:
        api: Gives the logs.
        now: Seconds on a clock that only goes forward.
    """

    def __init__(self, api: AirflowApi, *, now: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now = now
        self._read_at = float("-inf")
        self._counts: dict[int, FetchCounts] = {}
        self._finished: set[int] = set()

    def read(self, instances: Iterable[TaskInstance]) -> FetchCounts | None:
        """Return the counts of all fetch tasks together; None before the first line."""
        waits = self._now() - self._read_at < POLL_SECONDS
        for task in instances:
            if task.task_id != STAGE or task.map_index in self._finished:
                continue
            if task.state in ("success", "failed"):
                self._finished.add(task.map_index)
            elif task.state != "running" or waits:
                continue
            self._read_at = self._now()
            self._read_task(task)
        return add_counts(self._counts.values()) if self._counts else None

    def _read_task(self, task: TaskInstance) -> None:
        for event in reversed(self._api.task_log(task)):
            counts = read_line(event.text)
            if counts is not None:
                self._counts[task.map_index] = counts
                return
