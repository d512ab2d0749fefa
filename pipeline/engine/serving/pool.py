"""Starts model workers and sends them requests. This side never imports TensorFlow."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Protocol

from pipeline.engine.sandbox import system
from pipeline.engine.sandbox.policy import Policy
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.serving.artifacts import runtime_of
from pipeline.engine.serving.limits import TENSORFLOW, TFLITE, WorkerLimits
from pipeline.engine.serving.messages import WorkerReply, WorkerRequest
from pipeline.engine.serving.process import WorkerProcess
from pipeline.engine.serving.trunk.trunks import Trunks
from pipeline.errors import FailedPrecondition, TFLiteUnavailable, Unavailable
from pipeline.storage import Storage
from pipeline.tflite.manifest import check_tflite

log = logging.getLogger(__name__)

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
PASSED_PREFIXES = ("TF_", "OMP_", "KMP_", "CUDA_")


class ModelWorker(Protocol):
    """One loaded model."""

    closed: asyncio.Event
    runtime: str

    @property
    def is_shared(self) -> bool:
        """Whether it has no process of its own, so that unloading it gains nothing."""

    @property
    def has_crashed(self) -> bool:
        """Whether it ended by itself, nobody killed it: what it was asked is not asked again."""

    async def ask(self, request: WorkerRequest) -> WorkerReply:
        """Send one request and return the reply.

        Raises:
            ApiError: the error of the reply, or Unavailable if the worker died.
        """

    def kill_if_silent(self, since: float) -> bool:
        """End a process that has answered nobody since then, in seconds of the event loop's clock.

        Returns whether there was one.
        """

    async def close(self) -> None:
        """Stop serving the model."""


class WorkerPool(Protocol):
    """Loads models; the seam that tests fake."""

    async def load(self, name: str, directory: Path) -> ModelWorker:
        """Start a worker for a SavedModel and wait until it is warm.

        Raises:
            FailedPrecondition: if the model cannot be loaded.
            Unavailable: if somebody killed the worker; loading may be repeated.
        """

    async def close(self) -> None:
        """End what several models share."""


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
    private = Storage.from_environment(environ).directories.values()
    home = Path(environ.get("GRAFT_HOME") or ".graft").absolute()
    return Policy(
        read=(*system.around(libraries, (home, *private)), str(source), str(directory.absolute())),
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
        trunk_processes: How many processes each trunk has.
        idle_seconds: How long a trunk runs on after its last version is gone.
    """

    def __init__(
        self,
        logs: Path,
        *,
        start_seconds: float,
        limits: WorkerLimits | None = None,
        sandbox: Sandbox | None = None,
        at_once: int = 2,
        trunk_processes: int = 1,
        idle_seconds: float = 300,
    ) -> None:
        self._sandbox = sandbox or Sandbox.detect("auto")
        self._logs = logs
        self._scratch = logs.parent / "worker-scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)  # what workers of an engine that was killed left
        self._limits = limits or WorkerLimits()
        self._start_seconds = start_seconds
        self._loading = asyncio.Semaphore(at_once)
        self._trunks = Trunks(
            logs.parent / "trunks",
            partial(self._start, TFLITE),
            num_processes=trunk_processes,
            load_seconds=start_seconds,
            idle_seconds=idle_seconds,
        )

    async def load(self, name: str, directory: Path) -> ModelWorker:
        """Add a model of ours to its trunk, or start a worker of its own runtime."""
        async with self._loading:
            try:
                manifest = await asyncio.to_thread(check_tflite, directory)
                return await self._trunks.load(directory, manifest)
            except TFLiteUnavailable as error:
                runtime = runtime_of(directory)
                log.info("%s serves %s: %s.", runtime, name, error.message)
            except FailedPrecondition as error:
                runtime = TENSORFLOW
                log.warning("TFLite cannot load %s, TensorFlow will: %s", name, error.message)
            return await self._start(runtime, name, directory)

    async def close(self) -> None:
        """End the trunks."""
        await self._trunks.close()

    async def _start(self, runtime: str, name: str, directory: Path) -> WorkerProcess:
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
        own = {"TMPDIR": str(scratch)} | ({"HOME": str(scratch)} if self._sandbox.is_active else {})
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
