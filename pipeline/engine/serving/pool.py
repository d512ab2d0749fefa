"""Starts model workers and sends them requests. This side never imports TensorFlow."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pipeline.engine.sandbox import system
from pipeline.engine.sandbox.landlock import Policy
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.serving.artifacts import runtime_of
from pipeline.engine.serving.limits import TENSORFLOW, TFLITE, WorkerLimits
from pipeline.engine.serving.messages import READY, WorkerReply, WorkerRequest
from pipeline.engine.serving.wire import read_frame
from pipeline.errors import FailedPrecondition, TFLiteUnavailable, Unavailable
from pipeline.tflite.manifest import check_tflite

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0  # a process whose pipe is closed ends at once
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
PASSED_PREFIXES = ("TF_", "OMP_", "KMP_", "CUDA_")


class ModelWorker(Protocol):
    """One loaded model."""

    closed: asyncio.Event
    runtime: str
    has_crashed: bool  # by itself: nobody killed it
    last_reply: float  # when it last answered anything, in seconds of the event loop's clock

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Send one request and return the reply.

        Raises:
            ApiError: the error of the reply, or Unavailable if the worker died.
        """

    def kill(self) -> None:
        """End the process at once; the requests it has are not answered."""

    async def close(self) -> None:
        """End the process."""


class WorkerPool(Protocol):
    """Loads models; the seam that tests fake."""

    async def load(self, name: str, directory: Path) -> ModelWorker:
        """Start a worker for a SavedModel and wait until it is warm.

        Raises:
            FailedPrecondition: if the model cannot be loaded.
            Unavailable: if somebody killed the worker; loading may be repeated.
        """


class WorkerProcess:
    """The engine's end of one worker.

    Args:
        name: The version it serves, for logs.
        process: The worker, with pipes as stdin and stdout.
        runtime: What runs the model in it.
        scratch: The one directory it may write; removed when it has ended.
    """

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
        self._process = process
        self._numbers = itertools.count(READY + 1)
        self._waiting: dict[int, asyncio.Future[WorkerReply]] = {}
        self.ready: asyncio.Future[WorkerReply] = self._expect(READY)
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def _expect(self, number: int) -> asyncio.Future[WorkerReply]:
        future: asyncio.Future[WorkerReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return future

    def _gone(self) -> Unavailable:
        return Unavailable(f"The worker of {self.name} stopped; try again.")

    async def _read(self) -> None:
        if self._process.stdout is None:
            raise RuntimeError("a worker needs pipes")
        try:
            while True:
                frame = await read_frame(self._process.stdout)
                self.last_reply = asyncio.get_running_loop().time()
                future = self._waiting.pop(frame.header["id"], None)
                if future is not None and not future.done():
                    future.set_result(WorkerReply.from_frame(frame))
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            self.has_crashed = code not in (0, -signal.SIGKILL, -signal.SIGTERM)
            log.info("The worker of %s ended with status %d.", self.name, code)
        finally:
            self.closed.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._gone())
            self._waiting.clear()
            if self._scratch:
                await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Send one request and return the reply."""
        if self.closed.is_set() or self._process.stdin is None:
            raise self._gone()
        number = next(self._numbers)
        future = self._expect(number)
        try:
            self._process.stdin.write(request.to_frame(number).to_bytes())
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:  # uvloop raises the latter: the pipe is closed
            self._waiting.pop(number, None)
            with suppress(TimeoutError):  # so that whoever asks again gets the next worker
                await asyncio.wait_for(self.closed.wait(), CLOSE_SECONDS)
            raise self._gone() from error
        return (await future).or_raise()

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


def choose_runtime(name: str, directory: Path) -> str:
    """Return the runtime of a model: TFLite if its export is complete and equals TensorFlow."""
    try:
        check_tflite(directory)
    except TFLiteUnavailable as error:
        runtime = runtime_of(directory)
        log.info("%s serves %s: %s.", runtime, name, error.message)
        return runtime
    return TFLITE


def worker_environment(environ: dict[str, str], source: Path, runtime: str = TENSORFLOW) -> dict[str, str]:
    """Return the variables a worker sees: no secrets, and this very code."""
    env = {
        key: value for key, value in environ.items() if key in PASSED_ON or key.startswith(PASSED_PREFIXES)
    }
    # Each worker thread runs one batch; NumPy's own threads would only compete with them.
    own = {"OPENBLAS_NUM_THREADS": "1"} if runtime == TFLITE else {"TF_ENABLE_ONEDNN_OPTS": "1"}
    return {"TF_CPP_MIN_LOG_LEVEL": "2", **env, **own, "PYTHONPATH": str(source)}


def worker_policy(directory: Path, scratch: Path, source: Path, environ: dict[str, str]) -> Policy:
    """Return what a worker may reach: libraries, this code, its model and an empty directory of its own."""
    libraries = (*system.LIBRARIES, *system.interpreter(), *system.library_paths(environ))
    return Policy(
        read=(*libraries, str(source), str(directory.absolute())),
        write=(str(scratch),),
        device=system.devices(),
        has_network=False,
    )


class ProcessPool:
    """Loads each model in a process of its own.

    Args:
        logs: Directory of the workers' logs, in the engine's own.
        start_seconds: How long a model may take to load and warm up.
        limits: The limits of each worker.
        sandbox: Restricts each worker.
        at_once: How many models are loaded at the same time.
    """

    def __init__(
        self,
        logs: Path,
        *,
        start_seconds: float,
        limits: WorkerLimits | None = None,
        sandbox: Sandbox | None = None,
        at_once: int = 2,
    ) -> None:
        self._sandbox = sandbox or Sandbox.detect("auto")
        self._logs = logs
        self._scratch = logs.parent / "worker-scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)  # what workers of an engine that was killed left
        self._limits = limits or WorkerLimits()
        self._start_seconds = start_seconds
        self._loading = asyncio.Semaphore(at_once)

    async def load(self, name: str, directory: Path) -> WorkerProcess:
        """Start a worker and wait until it is warm; TensorFlow runs what the TFLite runtime refuses."""
        async with self._loading:
            runtime = await asyncio.to_thread(choose_runtime, name, directory)
            try:
                return await self._start(name, directory, runtime)
            except FailedPrecondition as error:
                if runtime != TFLITE:
                    raise
                log.warning("TFLite cannot load %s, TensorFlow will: %s", name, error.message)
            return await self._start(name, directory, TENSORFLOW)

    async def _start(self, name: str, directory: Path, runtime: str) -> WorkerProcess:
        worker = await self._spawn(name, directory, runtime)
        try:
            (await asyncio.wait_for(worker.ready, self._start_seconds)).or_raise()
        except BaseException as error:
            await worker.close()
            if isinstance(error, TimeoutError):
                text = f"Failed to load model: not ready after {self._start_seconds:.0f} s."
                raise FailedPrecondition(text) from error
            if isinstance(error, Unavailable) and worker.has_crashed:
                text = f"Failed to load model: the worker died while loading; see {self._log(name)}."
                raise FailedPrecondition(text) from error
            raise
        log.info("%s is ready in process %d and runs on %s.", name, worker.pid, runtime)
        return worker

    def _log(self, name: str) -> Path:
        return self._logs / f"worker-{name.replace('/', '-')}.log"

    async def _spawn(self, name: str, directory: Path, runtime: str) -> WorkerProcess:
        self._logs.mkdir(parents=True, exist_ok=True)
        environ, source = dict(os.environ), system.source_directory(self._logs.parent)
        scratch = self._make_scratch()
        command = [sys.executable, "-P", "-m", "pipeline.engine.serving.worker"]
        command += [runtime, str(directory), self._limits.to_json()]
        own = {"HOME": str(scratch), "TMPDIR": str(scratch)} if self._sandbox.is_active else {}
        with self._log(name).open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *self._sandbox.wrap(worker_policy(directory, scratch, source, environ), command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=worker_environment(environ, source, runtime) | own,
                start_new_session=True,
            )
        return WorkerProcess(name, process, runtime=runtime, scratch=scratch)

    def _make_scratch(self) -> Path:
        self._scratch.mkdir(exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(dir=self._scratch)).absolute()
