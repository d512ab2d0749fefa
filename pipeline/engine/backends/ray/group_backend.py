"""A job with several replicas, as the node that has its attempt runs it: through Ray, on all nodes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.backends.ray import placement
from pipeline.engine.backends.ray.group import GroupLog, ReplicaGroup
from pipeline.engine.backends.ray.replicas import replicas_of
from pipeline.engine.settings import EngineSettings
from pipeline.errors import Internal
from pipeline.types import JsonObject, JsonValue

REPLICA = "pipeline.engine.backends.ray.replica"
LEADER_CPUS = 0.01  # of the submission, which only starts and watches the replicas
LINE_LIMIT = 1 << 25  # more than a piece of a log in base 64
STOP_SECONDS = 10.0  # for the last pieces of logs, after the grace of the programs


def bundle(job: TrainingJob, role: str, settings: EngineSettings) -> dict[str, float]:
    """Return what a replica takes of its node: its processors, but for what the submission takes."""
    resources: dict[str, float] = {"CPU": (settings.job_cpus or 1) - LEADER_CPUS}
    if num_gpus := job.num_gpus.get(role):
        resources["GPU"] = num_gpus
    if settings.job_memory_bytes:
        resources["memory"] = settings.job_memory_bytes
    return resources


@dataclass(frozen=True, slots=True)
class _Running:
    """The process that places the replicas, and what it has told."""

    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    group: ReplicaGroup
    follower: asyncio.Task[None]


class GroupBackend:
    """Runs one job; `placement` is its process in Ray's environment.

    Args:
        settings: The limits of jobs, and the interpreters of the nodes.
        directory: For its log.
        words: The arguments of `replica`.
    """

    poll_seconds = 0.5
    is_local = True
    has_replicas = True

    def __init__(self, settings: EngineSettings, directory: Path, words: Sequence[str]) -> None:
        self._settings = settings
        self._log_path = directory / "log.txt"
        self._errors_path = directory / "placement.txt"
        self._words = list(words)
        self._running: _Running | None = None

    @property
    def driver(self) -> list[str]:
        """The interpreter that has Ray."""
        return shlex.split(self._settings.ray_driver_python or self._settings.ray_python)

    def _plan(self, job: TrainingJob) -> JsonObject:
        replicas: list[JsonValue] = [
            {"name": replica.name, "resources": dict(bundle(job, replica.role, self._settings))}
            for replica in replicas_of(job)
        ]
        command = [*shlex.split(self._settings.ray_python), "-P", "-m", REPLICA, *self._words]
        return {
            "command": list(command),
            "replicas": replicas,
            "wait_seconds": self._settings.cancel_grace_seconds + STOP_SECONDS,
        }

    async def start(self, job: TrainingJob) -> None:
        """Start the process that places the replicas."""
        grace = self._settings.cancel_grace_seconds
        self._log_path.touch()
        group = ReplicaGroup(replicas_of(job), GroupLog(self._log_path), grace_seconds=grace)
        with self._errors_path.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(*self.driver, "-I", placement.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                limit=LINE_LIMIT,
            )
        if process.stdin is None or process.stdout is None:
            raise Internal("The process that places the replicas has no pipes.")
        process.stdin.write(f"{json.dumps(self._plan(job))}\n".encode())
        follower = asyncio.create_task(self._follow(process, process.stdout, group))
        self._running = _Running(process, process.stdin, group, follower)

    async def _follow(
        self, process: asyncio.subprocess.Process, events: asyncio.StreamReader, group: ReplicaGroup
    ) -> None:
        is_placed = False
        async for line in events:
            event = json.loads(line)
            is_placed = is_placed or "placed" in event
            group.take(event)
        code = await process.wait()
        if group.status.is_over:
            return
        if is_placed:
            group.end(f"The process that watches the replicas ended with status {code}.", is_lost=True)
        else:
            errors = self._errors_path.read_text(errors="replace").strip()[-1000:]
            group.end(
                f"The replicas could not be placed by {shlex.join(self.driver)!r} (status {code}). "
                f"GRAFT_ENGINE_RAY_DRIVER_PYTHON names the interpreter of the nodes that has Ray. {errors}"
            )

    async def statuses(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the state of the one run there is."""
        running = self._running
        if running is None:
            return dict.fromkeys(runs, RunStatus(state=RunState.ABSENT))
        if running.follower.done():
            running.follower.result()  # raises what ended it
        return dict.fromkeys(runs, running.group.status)

    async def stop(self, run: str) -> None:
        """End all replicas; return when they have sent the rest of their logs, or took too long."""
        if (running := self._running) is None:
            return
        if not running.group.status.is_over:
            running.group.end()
        running.stdin.close()
        seconds = self._settings.cancel_grace_seconds + 2 * STOP_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running.follower), seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        await running.follower
        running.group.finish()

    async def log_size(self, run: str) -> int:
        """Return how many bytes of the log of all there are."""
        return self._log_path.stat().st_size if self._log_path.exists() else 0

    async def log(self, run: str, start: int, length: int) -> bytes:
        """Return some of the log of all."""
        with self._log_path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    async def metrics(self, run: str) -> bytes:
        """Return the metrics that the chief reports."""
        return self._running.group.metrics if self._running else b""
