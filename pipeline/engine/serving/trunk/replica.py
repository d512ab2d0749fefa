"""One process of a trunk, which is replaced when it ends and is told which heads are wanted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from pipeline.engine.serving.messages import RequestKind, WorkerRequest
from pipeline.engine.serving.process import WorkerProcess
from pipeline.engine.serving.trunk.head_file import HeadSource
from pipeline.engine.supervision import report_failure
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

Start: TypeAlias = Callable[[], Awaitable[WorkerProcess]]
RETRY_SECONDS = (0.0, 1.0, 5.0, 30.0)  # between attempts to replace a process


def heads_request(kind: RequestKind, heads: Iterable[HeadSource], *, warm: bool = False) -> WorkerRequest:
    """Return the request that adds heads to a process, or drops them."""
    sources = list(heads)
    payload = json.dumps([source.to_dict() for source in sources]).encode()
    names = [source.digest for source in sources] if warm or kind == RequestKind.DROP_HEADS else ()
    return WorkerRequest(kind=kind, payload=payload, heads=names)


class Replica:
    """One process of a trunk; another takes its place when it ends.

    Args:
        start: Starts a process and waits until its network is warm.
        heads: The heads that are wanted, which may change at any time.
    """

    def __init__(self, start: Start, heads: Mapping[str, HeadSource]) -> None:
        self._start = start
        self._heads = heads
        self._supervision: asyncio.Task[None] | None = None
        self.process: WorkerProcess | None = None
        self.changed = asyncio.Event()  # whenever a process is ready

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self.process is not None and not self.process.closed.is_set()

    async def start(self) -> None:
        """Start the process, and keep it running from then on.

        Raises:
            FailedPrecondition: if it cannot be started.
        """
        await self._fill()
        self._supervision = asyncio.create_task(self._supervise())

    async def _fill(self) -> None:
        """Start a process and tell it which heads are wanted, until that has not changed meanwhile."""
        process = await self._start()
        sent: set[str] = set()
        try:
            while missing := [head for digest, head in self._heads.items() if digest not in sent]:
                await process.ask(heads_request(RequestKind.ADD_HEADS, missing))
                sent |= {head.digest for head in missing}
        except BaseException:
            await process.close()
            raise
        self.process = process
        self.changed.set()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            if self.process is not None:
                await self.process.closed.wait()
                log.warning("Process %d of a trunk is gone; starting another.", self.process.pid)
                self.process = None
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            try:
                await self._fill()
                failures = 0
            except PipelineError as error:
                failures += 1
                log.error("A process of a trunk could not be started: %s", error.message)
            except Exception as error:  # the edge of the task: nothing else would start it again
                failures += 1
                report_failure("trunk", error)

    async def close(self) -> None:
        """End the process."""
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        if self.process is not None:
            await self.process.close()
