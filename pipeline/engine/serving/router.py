"""Who answers a prediction: a table in memory, which `setDefault` swaps. No database on this path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pipeline.engine.serving.pool import Servant, WorkerPool
from pipeline.engine.serving.wire import Frame
from pipeline.errors import FailedPrecondition, NotFound, PipelineError, Unavailable

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[Path]]
RETRY_SECONDS = (0.0, 1.0, 5.0, 30.0)  # between attempts to bring a dead worker back


class ServedVersion:
    """A version that stays served: a worker that dies is started again, one that sleeps wakes when asked.

    Args:
        name: `model/version`.
        fetch: Makes the local copy of its SavedModel where it is missing, and returns it.
        pool: Who loads it.
        wait_seconds: How long a prediction waits for a worker that is being started again.
    """

    def __init__(self, name: str, fetch: Fetch, pool: WorkerPool, *, wait_seconds: float) -> None:
        self.name = name
        self._fetch = fetch
        self._pool = pool
        self._wait_seconds = wait_seconds
        self._servant: asyncio.Future[Servant] = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._is_closed = False
        self.last_used = 0.0

    @property
    def is_awake(self) -> bool:
        """Whether the model is loaded, or being loaded."""
        return self._keeping is not None

    async def _load(self) -> Servant:
        return await self._pool.load(self.name, await self._fetch())

    async def start(self) -> None:
        """Load the model; from then on keep it loaded.

        Raises:
            FailedPrecondition: if it cannot be loaded.
        """
        self._servant.set_result(await self._load())
        self.keep()

    def keep(self) -> None:
        """Keep the model loaded, beginning now if it is not."""
        self.last_used = asyncio.get_running_loop().time()
        if self._keeping is None and not self._is_closed:
            self._keeping = asyncio.create_task(self._keep())

    async def sleep(self) -> None:
        """Unload the model until it is asked again, unless it is busy."""
        if not self._in_flight and self.is_awake:
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
                log.error("%s could not be loaded: %s", self.name, error.message)

    async def _current(self) -> Servant:
        while (servant := await asyncio.shield(self._servant)).closed.is_set():
            await asyncio.sleep(0.01)  # the keeper is about to notice
        return servant

    async def ask(self, kind: str, payload: bytes, **header: Any) -> Frame:
        """Pass one request to the worker, waiting for it if it is being started again.

        A request whose worker dies is asked once more: predictions change nothing.

        Raises:
            Unavailable: if there is no worker in time, or the second one dies too.
        """
        self._in_flight += 1
        try:
            return await self._ask(kind, payload, **header)
        finally:
            self._in_flight -= 1

    async def _ask(self, kind: str, payload: bytes, **header: Any) -> Frame:
        self.keep()
        try:
            servant = await asyncio.wait_for(self._current(), self._wait_seconds)
            try:
                return await servant.ask(kind, payload, **header)
            except Unavailable:
                log.warning("The worker of %s died under a request.", self.name)
            servant = await asyncio.wait_for(self._current(), self._wait_seconds)
        except TimeoutError as error:
            raise Unavailable(f"{self.name} is being loaded; try again.") from error
        return await servant.ask(kind, payload, **header)

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
        """Stop serving."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._unload()
        self._servant.set_exception(Unavailable(f"{self.name} is not served any more."))
        self._servant.exception()  # nobody may be waiting for it, which is no mistake


class Router:
    """Models and versions by name.

    The default version of each model stays loaded. Of the others only those used last do: each costs a
    process, and a model that is retrained every day would fill the memory.

    Args:
        num_warm: How many versions that are no default stay loaded, over all models.
    """

    def __init__(self, *, num_warm: int) -> None:
        self._num_warm = num_warm
        self._versions: dict[tuple[str, str], ServedVersion] = {}
        self._defaults: dict[str, str | None] = {}
        self._trimming: set[asyncio.Task[None]] = set()

    def add_model(self, model: str, default: str | None = None) -> None:
        """Make a model known, or say which version is its default."""
        self._defaults[model] = default
        served = self._versions.get((model, default or ""))
        if served is not None:
            served.keep()
        self._trim()

    def remove_model(self, model: str) -> None:
        """Forget a model."""
        self._defaults.pop(model, None)

    def add(self, model: str, version: str, served: ServedVersion) -> None:
        """Send predictions of a version to a worker."""
        self._versions[model, version] = served
        if self._defaults.get(model) == version:
            served.keep()
        self._trim()

    def _trim(self) -> None:
        task = asyncio.create_task(self._unload_unused())
        self._trimming.add(task)
        task.add_done_callback(self._trimming.discard)

    async def _unload_unused(self) -> None:
        others = [
            served
            for (model, version), served in self._versions.items()
            if served.is_awake and self._defaults.get(model) != version
        ]
        unused = sorted(others, key=lambda served: served.last_used, reverse=True)[self._num_warm :]
        await asyncio.gather(*(served.sleep() for served in unused))

    def remove(self, model: str, version: str) -> ServedVersion | None:
        """Send no more predictions to a version."""
        return self._versions.pop((model, version), None)

    def find(self, model: str, version: str | None = None) -> ServedVersion:
        """Return who answers for a version, or for the model's default.

        Raises:
            NotFound: if there is no such model or version.
            FailedPrecondition: if the model has no version yet.
        """
        if model not in self._defaults:
            raise NotFound("The specified model was not found.", field="name")
        version = version or self._defaults[model]
        if version is None:
            raise FailedPrecondition(
                f"Model {model} has no default version; create a version first.", field="name"
            )
        served = self._versions.get((model, version))
        if served is None:
            raise NotFound("The specified version was not found or is not ready.", field="name")
        if not served.is_awake:
            served.keep()
            self._trim()
        return served

    async def close(self) -> None:
        """Stop all workers."""
        served, self._versions = list(self._versions.values()), {}
        await asyncio.gather(*(version.close() for version in served))
