"""The engine's side of a trunk: its processes are kept running, and have all heads that are wanted.

A trunk is told which heads are wanted and is sent requests; it shares no memory with the engine, and finds
heads by path and digest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.engine.serving.limits import TFLITE
from pipeline.engine.serving.messages import RequestKind, WorkerReply, WorkerRequest
from pipeline.engine.serving.process import Pending, WorkerProcess
from pipeline.engine.serving.trunk.head_file import HeadSource, write_head
from pipeline.engine.serving.trunk.replica import Replica, Start, heads_request
from pipeline.errors import ApiError, FailedPrecondition, LostHead, Unavailable
from pipeline.tflite.manifest import TFLiteManifest

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Together:
    """What several versions are asked at the same moment: one request for all of them."""

    request: WorkerRequest
    heads: list[str]
    sending: asyncio.Task[tuple[WorkerProcess, Sequence[Pending]]] | None = None


class TrunkServer:
    """The processes of one trunk, each with all its heads.

    Args:
        name: For logs.
        heads: The directory that the files of heads are written to.
        start: Starts a process and waits until its network is warm.
        load_seconds: How long a head may take to load.
        num_processes: How many there are.
        on_unused: Called when no version is served any more.
    """

    def __init__(
        self,
        name: str,
        heads: Path,
        start: Start,
        *,
        load_seconds: float = 180,
        num_processes: int = 1,
        on_unused: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._directory = heads
        self._on_unused = on_unused
        self._load_seconds = load_seconds
        self._heads: dict[str, HeadSource] = {}
        self._users: Counter[str] = Counter()
        self._num_adding = 0
        self._files = asyncio.Lock()
        self._replicas = [Replica(start, self._heads) for _ in range(num_processes)]
        self._together: dict[tuple[int, RequestKind, str], _Together] = {}
        self._forgetting: set[asyncio.Task[None]] = set()

    @property
    def is_used(self) -> bool:
        """Whether a version is served, or is about to be."""
        return bool(self._users) or self._num_adding > 0

    @property
    def processes(self) -> list[WorkerProcess]:
        """The processes that take requests."""
        return [each.process for each in self._replicas if each.process is not None and each.is_ready]

    async def start(self) -> None:
        """Start the processes.

        Raises:
            FailedPrecondition: if one cannot be started.
        """
        starts = (replica.start() for replica in self._replicas)
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def add(self, directory: Path, manifest: TFLiteManifest) -> TrunkVersion:
        """Serve the head of a model; return once every process that runs has it loaded and warm.

        Raises:
            TFLiteUnavailable: if its files are not those of the manifest.
            FailedPrecondition: if it cannot be loaded.
        """
        self._num_adding += 1
        try:
            async with self._files:
                source = await asyncio.to_thread(write_head, directory, manifest, self._directory)
                self._users[source.digest] += 1
                self._heads[source.digest] = source
        finally:
            self._num_adding -= 1
        version = TrunkVersion(self, source.digest)
        try:
            async with asyncio.timeout(self._load_seconds):
                await self._load(source)
        except BaseException as error:
            await version.close()
            if isinstance(error, TimeoutError):
                text = f"Failed to load model: not ready after {self._load_seconds:.0f} s."
                raise FailedPrecondition(text) from error
            raise
        return version

    async def _load(self, source: HeadSource) -> None:
        request = heads_request(RequestKind.ADD_HEADS, [source], warm=True)
        while True:
            await self._pick()
            asked = (process.ask(request) for process in self.processes)
            replies = await asyncio.gather(*asked, return_exceptions=True)
            errors = [reply for reply in replies if isinstance(reply, BaseException)]
            for error in errors:
                if type(error) is not Unavailable:
                    text = error.message if isinstance(error, ApiError) else repr(error)
                    raise FailedPrecondition(f"Failed to load model: {text}") from error
            if len(errors) < len(replies):
                return  # a process that ended meanwhile gets the head when it is replaced

    def release(self, digest: str) -> None:
        """Serve a head no more, unless another version has the same."""
        self._users[digest] -= 1
        if self._users[digest]:
            return
        del self._users[digest]
        task = asyncio.create_task(self._forget(self._heads.pop(digest)))
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)
        if not self.is_used:
            self._on_unused()

    async def _forget(self, source: HeadSource) -> None:
        async with self._files:
            if source.digest in self._users:  # it was added again
                return
            await asyncio.to_thread(Path(source.path).unlink, missing_ok=True)
            for process in self.processes:
                with suppress(Unavailable):
                    await process.send(heads_request(RequestKind.DROP_HEADS, [source]))

    async def _pick(self) -> WorkerProcess:
        """Return the process with the fewest requests, waiting for one if there is none."""
        while not self.processes:
            for replica in self._replicas:
                replica.changed.clear()
            waits = [asyncio.create_task(replica.changed.wait()) for replica in self._replicas]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
        return min(self.processes, key=lambda process: process.num_waiting)

    async def ask(self, digest: str, request: WorkerRequest) -> WorkerReply:
        """Ask one head. What several are asked at the same moment is sent, and passed through, once.

        A request whose process ends is sent once more, but not if it may be why the process crashed.

        Raises:
            Unavailable: if it may be, or the second process ends too.
            LostHead: if the head must be provided again.
        """
        process, pending = await self._send(digest, request)
        try:
            return (await pending.reply).or_raise()
        except LostHead:
            raise
        except Unavailable:
            if process.may_have_crashed_by(pending):
                raise
            log.warning("A process of trunk %s ended under a request; it is sent again.", self.name)
        _, pending = await self._send(digest, request)
        return (await pending.reply).or_raise()

    async def _send(self, digest: str, request: WorkerRequest) -> tuple[WorkerProcess, Pending]:
        key = id(request.payload), request.kind, request.signature_name
        together = self._together.get(key)
        if together is None:
            together = self._together[key] = _Together(request, [])
            together.sending = asyncio.create_task(self._send_together(key))
        index = len(together.heads)
        together.heads.append(digest)
        if together.sending is None:
            raise RuntimeError("a request is sent by the first that joins it")
        process, replies = await asyncio.shield(together.sending)
        return process, replies[index]

    async def _send_together(
        self, key: tuple[int, RequestKind, str]
    ) -> tuple[WorkerProcess, Sequence[Pending]]:
        """Send what was collected under a key since this task was made."""
        process = await self._pick()
        together = self._together.pop(key)
        request = replace(together.request, heads=together.heads)
        while True:
            try:
                return process, await process.send(request)
            except Unavailable:  # it ended before it was sent anything
                await process.closed.wait()
                process = await self._pick()

    def kill_if_silent(self, since: float) -> bool:
        """Kill the processes that have answered nothing since then; return whether there are any."""
        return any([process.kill_if_silent(since) for process in self.processes])

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*self._forgetting, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self._replicas))


class TrunkVersion:
    """A version that a trunk serves.

    Args:
        trunk: The trunk.
        digest: Its head.
    """

    runtime = TFLITE
    is_shared = True

    def __init__(self, trunk: TrunkServer, digest: str) -> None:
        self._trunk = trunk
        self._digest = digest
        self.closed = asyncio.Event()

    @property
    def has_crashed(self) -> bool:
        """Whether a request that failed must not be sent again: the trunk did what could be done."""
        return not self.closed.is_set()

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Send one request and return the reply."""
        if self.closed.is_set():
            raise Unavailable("The version is being loaded again; try again.")
        try:
            return await self._trunk.ask(self._digest, request)
        except LostHead as error:
            log.error("%s", error.message)
            await self.close()
            raise Unavailable(error.message) from error

    def kill_if_silent(self, since: float) -> bool:
        """Kill what has answered nothing since then; the trunk starts another."""
        return self._trunk.kill_if_silent(since)

    async def close(self) -> None:
        """Release the head."""
        if not self.closed.is_set():
            self.closed.set()
            self._trunk.release(self._digest)
