"""The engine's long-lived tasks: an exception ends none of them for good."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import Counter

log = logging.getLogger(__name__)

RESTART_SECONDS = (0.1, 1.0, 5.0, 30.0)  # before each start after a failure; the last one again and again
STABLE_SECONDS = 60.0  # a task that ran as long starts again as after its first failure
FAILURES = Counter(
    "graft_engine_task_failures",
    "Exceptions in tasks of the engine, which go on or are started again.",
    ("task",),
    registry=None,
)
Result = TypeVar("Result")


def report_failure(task: str, error: Exception) -> None:
    """Log an exception of a task with its traceback, and count it.

    Args:
        task: What failed, from a small set of names: it is a label of the metric.
        error: The exception.
    """
    log.error("The task %r of the engine failed; it goes on.", task, exc_info=error)
    FAILURES.labels(task).inc()


async def supervise(task: str, work: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of work; start it again with back-off each time that it raises.

    Args:
        task: Its name in the log and in the metric.
        work: Starts it; it must be possible to repeat.
    """
    failures = 0
    while True:
        started = time.monotonic()
        try:
            return await work()
        except Exception as error:  # the edge of the task
            report_failure(task, error)
        if time.monotonic() - started > STABLE_SECONDS:
            failures = 0
        await asyncio.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])
        failures += 1
