"""The states of runs: whoever asks while others do gets the reply of one and the same call of the backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping

from pipeline.engine.backends import Backend, RunStatus


class StatusBoard:
    """Reads the states of runs, at most once in the backend's `poll_seconds`.

    Reading is what watchers wait for between two looks, so they need no pause of their own: the first to ask
    waits until the time has come, and those that ask meanwhile share its call.

    Args:
        backend: Runs them.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._next_read = 0.0  # of the monotonic clock
        self._wanted: set[str] = set()
        self._reading: asyncio.Task[Mapping[str, RunStatus]] | None = None

    async def read(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the states of at least these runs, read after this was called.

        Raises:
            PipelineError, OSError: what the backend raises for these runs alone: the damaged record of one
                must not end others.
        """
        self._wanted.update(runs)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        reading = self._reading
        try:
            return await asyncio.shield(reading)  # others may wait for it, too
        except Exception:  # whatever it is, it is raised again where it belongs
            return await self._backend.statuses(runs)

    async def _read(self) -> Mapping[str, RunStatus]:
        try:
            await asyncio.sleep(max(0.0, self._next_read - time.monotonic()))
        finally:
            runs, self._wanted, self._reading = self._wanted, set(), None
        self._next_read = time.monotonic() + self._backend.poll_seconds
        return await self._backend.statuses(runs)
