"""Waits for long-running operations of v1, and for what they bring about."""

from __future__ import annotations

import logging

from pipeline.errors import JobTimeout, PlatformError, PlatformUnavailable
from pipeline.ml_engine.resources import Operation
from pipeline.ml_engine.transport import V1Transport
from pipeline.patience import Clock

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5


class Operations:
    """Waits for operations.

    Args:
        api: Asks for them.
        seconds: How long one may take.
        clock: Paces the waiting.
    """

    def __init__(self, api: V1Transport, seconds: float, clock: Clock) -> None:
        self._api = api
        self._seconds = seconds
        self._clock = clock

    def deadline(self) -> float:
        """Return when something that begins now must have ended, by the clock."""
        return self._clock.now() + self._seconds

    def wait(self, operation: Operation) -> Operation:
        """Return the operation once it is done.

        Raises:
            PlatformError: if it has failed.
            JobTimeout: if it takes too long.
        """
        deadline = self.deadline()
        while not operation.get("done"):
            self.pause(deadline, f"operation {operation['name']}")
            operation = self._look_again(operation)
        if operation.get("error"):
            error = operation["error"]
            raise PlatformError(f"{operation['name']} failed: {error.get('message', error)}", status=200)
        return operation

    def _look_again(self, operation: Operation) -> Operation:
        """Return the operation as it is now, or as it was: one goes on after a restart of the service."""
        try:
            return self._api.call(self._api.projects.operations().get(name=operation["name"]))
        except PlatformUnavailable as error:
            log.warning("ML Engine does not answer (%s); asking again", error)
            return operation

    def pause(self, deadline: float, what: str) -> None:
        """Wait a moment.

        Raises:
            JobTimeout: if the deadline has passed.
        """
        if self._clock.now() >= deadline:
            raise JobTimeout(f"{what} took longer than {self._seconds:.0f} s.")
        self._clock.sleep(PAUSE_SECONDS)
