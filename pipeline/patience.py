"""Patience: a call that a busy or restarting service does not answer is made again, until a deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

# More than two whole time-outs of a request: Airflow on SQLite can keep one waiting for a lock for a minute.
PATIENCE_SECONDS = 150.0
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 15.0
AnswerT = TypeVar("AnswerT")


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> float:
        """Return seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def call_patiently(call: Callable[[], AnswerT], *, seconds: float, clock: Clock | None = None) -> AnswerT:
    """Make a call, again with back-off while its error is transient.

    Args:
        call: The call; it must be safe to repeat.
        seconds: After this time no further call is made; 0 for a single one.
        clock: Paces the calls.

    Raises:
        PipelineError: the call's last error.
    """
    clock = clock or SystemClock()
    deadline, pause = clock.now() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except PipelineError as error:
            if not error.transient or clock.now() + pause > deadline:
                raise
            log.warning("%s Trying again in %g s.", error, pause)
        clock.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
