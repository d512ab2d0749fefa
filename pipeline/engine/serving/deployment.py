"""A version that stays served: its worker, what waits for it, and when it is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.pool import ONLINE, ModelWorker, WorkerPool
from pipeline.engine.serving.wire import Frame
from pipeline.engine.telemetry.request_log import Sample
from pipeline.errors import (
    DeadlineExceeded,
    PipelineError,
    ResourceExhausted,
    Unavailable,
)

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[Path]]
RETRY_SECONDS = (0.0, 1.0, 5.0, 30.0)  # between attempts to bring a dead worker back


class Deployment:
    """A version that stays served: a worker that dies is started again, one that sleeps wakes when asked.

    Args:
        name: `model/version`.
        fetch: Makes the local copy of its SavedModel where it is missing, and returns it.
        pool: Who loads it.
        limits: Of its online predictions.
        min_nodes: 0 unloads it when it is idle, and loads it when it is asked; 1 and more keep it loaded;
            None keeps it loaded while it is its model's default, and as long as there is room for others.
        sample: Which of its predictions are logged.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        pool: WorkerPool,
        *,
        limits: RequestLimits,
        min_nodes: int | None = None,
        sample: Sample | None = None,
    ) -> None:
        self.name = name
        self.sample = sample
        self.limits = limits
        self.min_nodes = min_nodes
        self.runtime = ""
        self._fetch = fetch
        self._pool = pool
        self._servant: asyncio.Future[ModelWorker] = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._in_flight = self._bytes_in_flight = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._idle: asyncio.TimerHandle | None = None
        self._going_to_sleep: asyncio.Task[None] | None = None
        self._is_closed = self._has_failed = False
        self.last_used = 0.0

    @property
    def is_loaded(self) -> bool:
        """Whether the model is loaded, or being loaded."""
        return self._keeping is not None

    @property
    def is_loading(self) -> bool:
        """Whether it is to be loaded, is not yet, and has not failed to."""
        return self.is_loaded and not self._servant.done() and not self._has_failed

    @property
    def in_flight(self) -> int:
        """How many requests it has not answered yet."""
        return self._in_flight

    async def _load(self) -> ModelWorker:
        servant = await self._pool.load(self.name, await self._fetch())
        self.runtime = servant.runtime
        return servant

    async def start(self) -> None:
        """Load the model; from then on keep it loaded.

        Raises:
            FailedPrecondition: if it cannot be loaded.
        """
        self._servant.set_result(await self._load())
        self.keep()
        self._wait_for_idleness()

    def keep(self) -> None:
        """Keep the model loaded, beginning now if it is not."""
        self.last_used = asyncio.get_running_loop().time()
        if self._keeping is None and not self._is_closed:
            self._keeping = asyncio.create_task(self._keep())

    def scale(self, min_nodes: int | None) -> None:
        """Say how many nodes stay up; see `min_nodes`."""
        self.min_nodes = min_nodes
        self._wait_for_idleness()

    async def sleep(self) -> None:
        """Unload the model until it is asked again, unless it is busy."""
        if not self._in_flight and self.is_loaded:
            log.info("%s sleeps until it is asked.", self.name)
            await self._unload()

    async def _keep(self) -> None:
        failures = 0
        while True:
            if self._servant.done():
                await self._servant.result().closed.wait()
                self._servant = asyncio.get_running_loop().create_future()
                log.warning("The worker of %s is gone; starting another.", self.name)
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            try:
                self._servant.set_result(await self._load())
                failures = 0
            except PipelineError as error:
                failures += 1
                self._has_failed = True
                log.error("%s could not be loaded: %s", self.name, error.message)

    async def _current(self) -> ModelWorker:
        while (servant := await asyncio.shield(self._servant)).closed.is_set():
            await asyncio.sleep(0.01)  # the keeper is about to notice
        return servant

    async def ask(self, kind: str, payload: bytes, **header: Any) -> Frame:
        """Pass one request to the worker, waiting for it if it is being started again.

        A request whose worker dies is asked once more: predictions change nothing.

        Raises:
            ResourceExhausted: if it has as many online requests as it may.
            DeadlineExceeded: if an online request takes too long.
            Unavailable: if there is no worker in time, or the second one dies too.
        """
        if self._is_closed:
            raise Unavailable(f"{self.name} is not served any more.")
        if kind == ONLINE:
            self._check_room(len(payload))
        self._in_flight += 1
        self._bytes_in_flight += len(payload)
        self._drained.clear()
        try:
            return await self._ask(kind, payload, **header)
        finally:
            self._in_flight -= 1
            self._bytes_in_flight -= len(payload)
            if not self._in_flight:
                self._drained.set()
                self._wait_for_idleness()

    def _check_room(self, size: int) -> None:
        limits = self.limits
        if self._in_flight >= limits.max_requests or self._bytes_in_flight + size > limits.max_bytes:
            raise ResourceExhausted(
                f"{self.name} has {self._in_flight} predictions of {self._bytes_in_flight:,} bytes "
                "under way, as many as it may; try again.",
                retry_after_seconds=1,
            )

    def _wait_for_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self.min_nodes == 0 and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self.limits.idle_seconds, self._fall_asleep)

    def _fall_asleep(self) -> None:
        self._going_to_sleep = asyncio.create_task(self.sleep())

    async def _ask(self, kind: str, payload: bytes, **header: Any) -> Frame:
        self.keep()
        try:
            servant = await self._wait_for_servant()
            try:
                return await self._ask_servant(servant, kind, payload, **header)
            except Unavailable:
                log.warning("The worker of %s died under a request.", self.name)
            servant = await self._wait_for_servant()
        except TimeoutError as error:
            raise Unavailable(f"{self.name} is being loaded; try again.") from error
        return await self._ask_servant(servant, kind, payload, **header)

    async def _wait_for_servant(self) -> ModelWorker:
        if self._servant.done() and not (servant := self._servant.result()).closed.is_set():
            return servant
        return await asyncio.wait_for(self._current(), self.limits.wait_seconds)

    async def _ask_servant(self, servant: ModelWorker, kind: str, payload: bytes, **header: Any) -> Frame:
        if kind != ONLINE:
            return await servant.ask(kind, payload, **header)
        seconds = self.limits.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                return await servant.ask(kind, payload, deadline=time.monotonic() + seconds, **header)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self.name} did not answer in {seconds:g} s; try again.") from error

    async def _unload(self) -> None:
        keeping, self._keeping = self._keeping, None
        servant = self._servant.result() if self._servant.done() else None
        if servant is not None:
            self._servant = asyncio.get_running_loop().create_future()
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if servant is not None:
            await servant.close()

    async def close(self) -> None:
        """Stop serving, once what a loaded worker was asked is answered."""
        if self._is_closed:
            return
        self._is_closed = True
        self._wait_for_idleness()
        if self._servant.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), self.limits.deadline_seconds)
        await self._unload()
        self._servant.set_exception(Unavailable(f"{self.name} is not served any more."))
        self._servant.exception()  # nobody may be waiting for it, which is no mistake
