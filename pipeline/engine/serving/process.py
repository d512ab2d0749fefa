"""The engine's end of one worker process: requests go in, replies come out, and its end is noticed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.serving.in_progress import FILE as IN_PROGRESS, read_in_progress
from pipeline.engine.serving.limits import TENSORFLOW
from pipeline.engine.serving.messages import READY, WorkerReply, WorkerRequest
from pipeline.engine.serving.wire import read_frame
from pipeline.errors import Unavailable

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0  # a process whose pipe is closed ends at once


@dataclass(frozen=True, slots=True)
class Pending:
    """A reply that is waited for.

    Args:
        number: Its number.
        request: The number of its request, which is its first reply's.
        since: When the request was sent, in seconds of the event loop's clock.
        reply: The reply.
    """

    number: int
    request: int
    since: float
    reply: asyncio.Future[WorkerReply]


class WorkerProcess:
    """The engine's end of one worker.

    Args:
        name: The version it serves, for logs.
        process: The worker, with pipes as stdin and stdout.
        runtime: What runs the model in it.
        scratch: The one directory it may write; removed when it has ended.
    """

    is_shared = False  # by versions, as far as their deployments know

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        *,
        runtime: str = TENSORFLOW,
        scratch: Path | None = None,
    ) -> None:
        self._scratch = scratch
        self.name = name
        self.runtime = runtime
        self.closed = asyncio.Event()
        self.has_crashed = False
        self.last_reply = 0.0
        self._in_progress: frozenset[int] | None = None
        self._process = process
        self._waiting: dict[int, Pending] = {}  # the oldest first
        self._next = READY
        self.ready = self._expect(READY).reply
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def num_waiting(self) -> int:
        """How many replies are waited for."""
        return len(self._waiting)

    def _expect(self, request: int) -> Pending:
        loop = asyncio.get_running_loop()
        pending = Pending(self._next, request, loop.time(), loop.create_future())
        self._waiting[self._next] = pending
        self._next += 1
        return pending

    def _gone(self) -> Unavailable:
        return Unavailable(f"The worker of {self.name} stopped; try again.")

    async def _read(self) -> None:
        if self._process.stdout is None:
            raise RuntimeError("a worker needs pipes")
        try:
            while True:
                frame = await read_frame(self._process.stdout)
                self.last_reply = asyncio.get_running_loop().time()
                pending = self._waiting.pop(frame.header["id"], None)
                if pending is not None and not pending.reply.done():
                    pending.reply.set_result(WorkerReply.from_frame(frame))
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            self.has_crashed = code not in (0, -signal.SIGKILL, -signal.SIGTERM)
            if self._scratch:
                self._in_progress = await asyncio.to_thread(read_in_progress, self._scratch / IN_PROGRESS)
            log.info("The worker of %s ended with status %d.", self.name, code)
        finally:
            self.closed.set()
            for pending in self._waiting.values():
                if not pending.reply.done():
                    pending.reply.set_exception(self._gone())
                    pending.reply.exception()  # marks it as retrieved: maybe nothing waits for it
            self._waiting.clear()
            if self._scratch:
                await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def send(self, request: WorkerRequest) -> Sequence[Pending]:
        """Send one request; each of its heads has a reply of its own.

        Raises:
            Unavailable: if the process has ended.
        """
        stdin = self._process.stdin
        if self.closed.is_set() or stdin is None:
            raise self._gone()
        first = self._next
        replies = [self._expect(first) for _ in request.heads or ("",)]
        try:
            stdin.write(request.to_frame(replies[0].number).to_bytes())
            await stdin.drain()
        except (ConnectionError, RuntimeError) as error:  # uvloop raises the latter: the pipe is closed
            for pending in replies:
                self._waiting.pop(pending.number, None)
            with suppress(TimeoutError):  # so that whoever asks again gets the next worker
                await asyncio.wait_for(self.closed.wait(), CLOSE_SECONDS)
            raise self._gone() from error
        return replies

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Send one request and return the reply."""
        (pending,) = await self.send(request)
        return (await pending.reply).or_raise()

    def may_have_crashed_by(self, pending: Pending) -> bool:
        """Return True if the process has crashed and may have been working on a request then."""
        is_begun = self._in_progress is None or pending.request in self._in_progress
        return self.has_crashed and is_begun

    def kill_if_silent(self, since: float) -> bool:
        """Kill a process that has answered nothing since then, while a request waited most of that time."""
        oldest = next(iter(self._waiting.values()), None)
        now = asyncio.get_running_loop().time()
        if oldest is None or self.last_reply >= since or now - oldest.since < (now - since) / 2:
            return False
        log.error("The worker of %s answers nothing; it is killed and replaced.", self.name)
        self.kill()
        return True

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the process: it exits at the end of its input, or is killed after two seconds."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 2)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading
