"""A deployed version: its worker, the requests that wait for it, and when it is loaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.engine.serving.chunks import ask_chunk
from pipeline.engine.serving.limits import RequestLimits
from pipeline.engine.serving.messages import RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.serving.pool import ModelWorker, WorkerPool
from pipeline.engine.supervision import report_failure
from pipeline.engine.v1.resources import RequestLoggingConfig
from pipeline.errors import DamagedModel, DeadlineExceeded, PipelineError, ResourceExhausted, Unavailable

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[Path]]
RETRY_SECONDS = (0.0, 1.0, 5.0, 30.0)  # between attempts to replace a dead worker


class Deployment:
    """A version that is served: a dead worker is replaced, an unloaded one is loaded by the next request.

    Args:
        name: `model/version`.
        fetch: Returns the local copy of its SavedModel, making it if it is missing.
        pool: Loads models.
        limits: The limits of its predictions.
        min_nodes: For versions with a process of their own: 0 unloads it when it is idle and loads it on
            demand; 1 and more keep it loaded; None keeps it loaded while it is its model's default, and as
            long as there is room for others.
        request_logging: Which of its predictions are logged.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        pool: WorkerPool,
        *,
        limits: RequestLimits,
        min_nodes: int | None = None,
        request_logging: RequestLoggingConfig | None = None,
    ) -> None:
        self.name = name
        self.request_logging = request_logging
        self.limits = limits
        self.min_nodes = min_nodes
        self.runtime = self.damage = ""  # why its files are refused
        self._fetch = fetch
        self._pool = pool
        self._worker: asyncio.Future[ModelWorker] = asyncio.get_running_loop().create_future()
        self._supervision: asyncio.Task[None] | None = None
        self._in_flight = self._bytes_in_flight = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._unloading: asyncio.Task[None] | None = None
        self._is_closed = self._has_failed = False
        self.last_used = 0.0

    @property
    def is_loaded(self) -> bool:
        """Whether the model is loaded, or being loaded."""
        return self._supervision is not None

    @property
    def is_shared(self) -> bool:
        """Whether it is loaded and has no process of its own, so that unloading it gains nothing."""
        is_loaded = self._worker.done() and self._worker.exception() is None
        return is_loaded and self._worker.result().is_shared

    @property
    def is_loading(self) -> bool:
        """Whether the model is being loaded, and loading it has not failed."""
        return self.is_loaded and not self._worker.done() and not self._has_failed

    @property
    def in_flight(self) -> int:
        """How many requests are not answered yet."""
        return self._in_flight

    async def _load(self) -> ModelWorker:
        directory = await self._fetch()
        try:
            worker = await self._pool.load(self.name, directory)
        except Unavailable as error:
            log.warning("%s It is loaded once more.", error.message)
            worker = await self._pool.load(self.name, directory)
        self.runtime, self.damage = worker.runtime, ""
        return worker

    async def start(self) -> None:
        """Load the model, and supervise its worker from then on.

        Raises:
            FailedPrecondition: if it cannot be loaded.
        """
        self._worker.set_result(await self._load())
        self.supervise()
        self._restart_idle_timer()

    def supervise(self) -> None:
        """Keep the model loaded from now on; load it if it is not."""
        self.last_used = asyncio.get_running_loop().time()
        if self._supervision is None and not self._is_closed:
            self._supervision = asyncio.create_task(self._supervise())

    def scale(self, min_nodes: int | None) -> None:
        """Set how many nodes stay up; see `min_nodes`."""
        self.min_nodes = min_nodes
        self._restart_idle_timer()

    async def unload(self) -> None:
        """Unload the model until the next request, unless it is busy or shares its process."""
        if not self._in_flight and self.is_loaded and not self.is_shared:
            log.info("%s is unloaded until the next request.", self.name)
            await self._end_worker()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            if self._worker.done():
                await self._worker.result().closed.wait()
                self._worker = asyncio.get_running_loop().create_future()
                log.warning("The worker of %s is gone; starting another.", self.name)
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            try:
                self._worker.set_result(await self._load())
                failures = 0
            except PipelineError as error:
                failures += 1
                self._has_failed = True
                if isinstance(error, DamagedModel):
                    self._refuse(error.message)
                log.error("%s could not be loaded: %s", self.name, error.message)
            except Exception as error:  # the edge of the task: it would never be loaded again
                failures += 1
                self._has_failed = True
                report_failure("deployment", error)

    def _refuse(self, damage: str) -> None:
        """Answer those who wait, and those who come, with what is damaged; loading is tried again."""
        self.damage, waiting = damage, self._worker
        self._worker = asyncio.get_running_loop().create_future()
        waiting.set_exception(Unavailable(damage))
        waiting.exception()  # marks it as retrieved: maybe nothing waits for it

    async def _next_worker(self) -> ModelWorker:
        while (worker := await asyncio.shield(self._worker)).closed.is_set():
            await asyncio.sleep(0.01)  # the supervision is about to replace it
        return worker

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Pass one request to the worker, waiting for it if it is being loaded.

        A request whose worker is killed is sent once more: predictions change nothing. One whose worker
        crashes is not: it may be the reason.

        Raises:
            ResourceExhausted: if it has its maximum of online requests.
            DeadlineExceeded: if an online request takes too long.
            Unavailable: if there is no worker in time, its worker crashes, or the second one dies too.
        """
        if self._is_closed:
            raise self._closed_error()
        if request.kind == RequestKind.ONLINE:
            self._check_room(len(request.payload))
        self._in_flight += 1
        self._bytes_in_flight += len(request.payload)
        self._drained.clear()
        try:
            return await self._ask_twice(request)
        finally:
            self._in_flight -= 1
            self._bytes_in_flight -= len(request.payload)
            if not self._in_flight:
                self._drained.set()
                self._restart_idle_timer()

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"{self.name} is not served any more.")

    def _check_room(self, size: int) -> None:
        limits = self.limits
        if self._in_flight >= limits.max_requests or self._bytes_in_flight + size > limits.max_bytes:
            raise ResourceExhausted(
                f"{self.name} has {self._in_flight} predictions of {self._bytes_in_flight:,} bytes "
                "under way, as many as it may; try again.",
                retry_after_seconds=1,
            )

    def _restart_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self.min_nodes == 0 and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self.limits.idle_seconds, self._start_unloading)

    def _start_unloading(self) -> None:
        self._unloading = asyncio.create_task(self.unload())

    async def _ask_twice(self, request: WorkerRequest) -> WorkerReply:
        self.supervise()
        try:
            worker = await self._wait_for_worker()
            try:
                return await self._ask_worker(worker, request)
            except Unavailable:
                log.warning("The worker of %s died under a request.", self.name)
                if worker.has_crashed:
                    raise
            worker = await self._wait_for_worker()
        except TimeoutError as error:
            raise Unavailable(f"{self.name} is being loaded; try again.") from error
        return await self._ask_worker(worker, request)

    async def _wait_for_worker(self) -> ModelWorker:
        if self._worker.done() and not (worker := self._worker.result()).closed.is_set():
            return worker
        if self.damage:
            raise Unavailable(self.damage)
        return await asyncio.wait_for(self._next_worker(), self.limits.wait_seconds)

    async def _ask_worker(self, worker: ModelWorker, request: WorkerRequest) -> WorkerReply:
        if request.kind != RequestKind.ONLINE:
            return await ask_chunk(self.name, worker, request, self.limits.chunk_seconds)
        seconds, began = self.limits.deadline_seconds, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                return await worker.ask(replace(request, deadline=time.monotonic() + seconds))
        except TimeoutError as error:
            worker.kill_if_silent(began)  # a busy worker answers others
            raise DeadlineExceeded(f"{self.name} did not answer in {seconds:g} s; try again.") from error

    async def _end_worker(self) -> None:
        supervision, self._supervision = self._supervision, None
        worker = self._worker.result() if self._worker.done() else None
        if worker is not None:
            self._worker = asyncio.get_running_loop().create_future()
        if supervision is not None:
            supervision.cancel()
            await asyncio.gather(supervision, return_exceptions=True)
        if worker is not None:
            await worker.close()

    async def close(self) -> None:
        """Stop serving once the requests of a loaded worker are answered."""
        if self._is_closed:
            return
        self._is_closed = True
        self._restart_idle_timer()
        if self._worker.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), self.limits.deadline_seconds)
        await self._end_worker()
        self._worker.set_exception(self._closed_error())
        self._worker.exception()  # marks it as retrieved: maybe nothing waits for it
