"""Training jobs as processes of this machine, each under a supervisor that outlives the engine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import stat
import sys
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from pipeline.engine.backends import RunState, RunStatus, TrainingJob, installer, supervisor
from pipeline.engine.backends.access import OWN, JobAccess
from pipeline.engine.backends.control_group import ControlGroup
from pipeline.engine.backends.gcs import server as bucket_server
from pipeline.engine.backends.job_paths import JobPaths
from pipeline.engine.backends.plan import (
    MARK,
    METRIC_FILE,
    cpu_settings,
    job_environment,
    memory_limit,
    server_environment,
    supervisor_environment,
)
from pipeline.engine.backends.processes import is_marked, process_start, signal_all
from pipeline.engine.backends.supervisor import write_json
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings
from pipeline.errors import Internal, InvalidArgument, Unimplemented
from pipeline.storage import Storage
from pipeline.types import JsonObject

METRIC_BYTES = 100_000  # cloudml-hypertune keeps the last hundred lines
RECORD_SECONDS = 5  # for the supervisor to record the end after all others are gone


def _package_path(directory: Path, index: int, uri: str) -> Path:
    name = urlsplit(uri).path.rpartition("/")[2]
    if not name.endswith((".tar.gz", ".whl", ".zip")) or name.startswith("."):
        raise InvalidArgument(
            f"A package is an sdist (.tar.gz, .zip) or a wheel (.whl). Received: {uri}",
            field="training_input.package_uris",
        )
    return directory / "packages" / str(index) / name


def marked_processes(directory: Path) -> list[psutil.Process]:
    """Return the living processes of a job, in any session and with any environment."""
    processes: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if is_marked(process, directory) or process.environ().get(MARK) == str(directory):
                processes |= {process, *process.children(recursive=True)}
    return [process for process in processes if process_start(process.pid) is not None]


def end_job(directory: Path, grace_seconds: float) -> None:
    """Send SIGTERM to everything of a job, SIGKILL after the grace, and wait until it is gone.

    The supervisor ends last, by itself: it is the parent of all others.
    """
    deadline = time.monotonic() + grace_seconds
    claim = _read(directory / "supervisor.json") or {"pid": 0}
    signal_all((process.pid for process in marked_processes(directory)), signal.SIGTERM)
    while alive := {process.pid for process in marked_processes(directory)}:
        late = time.monotonic() - deadline
        if late > 0:
            signal_all(alive if late > RECORD_SECONDS else alive - {claim["pid"]}, signal.SIGKILL)
        time.sleep(0.05)
    if group := ControlGroup.of(directory):
        group.remove()  # of a supervisor that was killed


def jobs_directory(home: Path) -> Path:
    """Return where the jobs of an engine live."""
    return home / "engine" / "jobs"


def stop_all_jobs(home: Path, *, grace_seconds: float = 3) -> list[str]:
    """End every job of an engine that has stopped; return their ids."""
    ended = []
    for claim in sorted(jobs_directory(home.absolute()).glob("*/supervisor.json")):
        directory = claim.parent
        if not (directory / "exit.json").exists() or marked_processes(directory):
            end_job(directory, grace_seconds)
            ended.append(directory.name)
    return ended


class LocalBackend:
    """Runs jobs under `GRAFT_HOME/engine/jobs/<job id>/`.

    A job is a process of the engine's user, which Landlock restricts where the kernel has it.

    Args:
        home: The engine's `GRAFT_HOME`.
        storage: Reads packages.
        settings: The limits of jobs.
        workspace: URI of the workspace.
        owner: A process with which its jobs end; None for jobs that outlive whoever started them.
    """

    poll_seconds = 0.2
    is_local = True
    has_replicas = False

    def __init__(
        self,
        home: Path,
        storage: Storage,
        settings: EngineSettings,
        *,
        workspace: str = "gs://graft",
        owner: int | None = None,
    ) -> None:
        self._owner = owner
        self._sandbox = Sandbox.detect(settings.sandbox)
        self._workspace = workspace
        self._jobs = jobs_directory(home)
        self._storage = storage
        self._settings = settings
        self._numbers = itertools.count()

    def _directory(self, run: str) -> Path:
        return self._jobs / run

    async def start(self, job: TrainingJob) -> None:
        """Fetch the packages and launch the supervisor; do nothing when one has the job.

        Raises:
            Unimplemented: if it has several replicas, as a job has that an engine with Ray queued.
        """
        if job.replicas and job.tf_config is None:
            raise Unimplemented(
                "This engine runs jobs with one replica only. Submit it to an engine with "
                "GRAFT_ENGINE_BACKEND=ray.",
                field="training_input.scale_tier",
            )
        directory = self._directory(job.run_id)
        if (directory / "supervisor.json").exists():
            return
        access = JobAccess(
            job=job,
            directory=directory,
            storage=self._storage,
            workspace=self._workspace,
            settings=self._settings,
        )
        await asyncio.to_thread(self._prepare, access)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", supervisor.__name__, str(directory)),
            stdin=asyncio.subprocess.DEVNULL,
            env=supervisor_environment(directory, self._settings, os.environ) | access.secrets(os.environ),
        )
        code = await process.wait()
        if code >= supervisor.NOT_WRITTEN:
            number = code - supervisor.NOT_WRITTEN
            raise OSError(number, f"Job {job.run_id} could not be started: {os.strerror(number)}")
        if code not in (0, supervisor.TAKEN):
            raise Internal(f"The supervisor of job {job.run_id} did not start; see the engine's log.")

    def _prepare(self, access: JobAccess) -> None:
        packages = []
        for index, uri in enumerate(access.job.package_uris):
            path = _package_path(access.directory, index, uri)
            self._fetch(uri, path)
            packages.append(str(path))
        access.make_directories(os.environ)
        to_install = [] if access.unpack_own_package() else packages
        write_json(access.directory / "job.json", self._plan(access, to_install))

    def _fetch(self, uri: str, path: Path) -> None:
        source, limit = self._storage.local_path(uri), self._settings.max_package_bytes
        if (size := source.stat().st_size) > limit:
            raise InvalidArgument(
                f"The package {uri} has {size:,} bytes; at most {limit:,} are taken "
                "(GRAFT_ENGINE_MAX_PACKAGE_BYTES).",
                field="training_input.package_uris",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        shutil.copyfile(source, partial)
        partial.replace(path)  # atomic: the supervisor of an engine that was killed may be reading it

    def _plan(self, access: JobAccess, packages: list[str]) -> JsonObject:
        job, directory, sandbox = access.job, access.directory, self._sandbox
        paths = JobPaths(job=job, addresses=self._storage.addresses, mode=self._settings.job_paths)
        cpus, threads = cpu_settings(self._settings, next(self._numbers))
        prepare = [sys.executable, "-P", "-m", installer.__name__, str(directory)] if packages else []
        command = [sys.executable, "-m", job.python_module, *paths.arguments]
        program = access.run(os.environ)
        server = [sys.executable, "-P", "-m", bucket_server.__name__, str(directory)]
        env = job_environment(job, directory, os.environ) | threads | paths.environment
        return {
            "packages": packages,
            "sandbox": sandbox.describe(),
            "build_prefix": sandbox.prefix(access.build(os.environ)),
            "prepare": sandbox.wrap(access.prepare(os.environ), prepare) if prepare else [],
            "command": sandbox.wrap(program, command),
            "buckets": access.buckets().to_dict(),
            "bucket_server": sandbox.wrap(program, server) if paths.has_bucket_server else [],
            "bucket_server_env": server_environment(directory, os.environ),
            "notes": paths.notes,
            "cwd": str(directory / "work"),
            "env": env | access.environment() if sandbox.is_active else env,
            "max_running_seconds": job.max_running_seconds,
            "grace_seconds": self._settings.cancel_grace_seconds,
            "memory_bytes": memory_limit(self._settings),
            "processes": self._settings.job_processes,
            "log_bytes": self._settings.job_log_bytes,
            "cpus": cpus,
            "nice": self._settings.job_nice,
            "restarts": self._settings.job_restarts,
            "owner": {"pid": self._owner, "start": process_start(self._owner)} if self._owner else None,
        }

    async def statuses(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the state of each of the runs; it takes no time that others would have to wait for."""
        return {run: self._status(run) for run in runs}

    def _status(self, run: str) -> RunStatus:
        """Return the state of a run, from its files and its supervisor's pid and start time."""
        directory = self._directory(run)
        ending = _read(directory / "exit.json")
        if ending is None:
            claim = _read(directory / "supervisor.json")
            if claim is None:
                return RunStatus(state=RunState.ABSENT)
            if process_start(claim["pid"]) == claim["start"]:
                running = _read(directory / "running.json")
                if running is None:
                    return RunStatus(state=RunState.PREPARING)
                return RunStatus(state=RunState.RUNNING, started=running["started"])
            ending = _read(directory / "exit.json")  # it may have ended between the two reads
        if ending is None:
            return RunStatus(state=RunState.VANISHED)
        running = _read(directory / "running.json")
        return RunStatus(
            state=RunState.EXITED,
            exit_code=ending["code"],
            timed_out=ending["timed_out"],
            problem=ending["problem"],
            preparing=ending["phase"] == "prepare",
            started=running["started"] if running else None,
            ended=ending["ended"],
        )

    async def stop(self, run: str) -> None:
        """End the job and everything it started; what it installed goes too, its log stays."""
        await asyncio.to_thread(self._end, self._directory(run))

    def _end(self, directory: Path) -> None:
        end_job(directory, self._settings.cancel_grace_seconds)
        for name in (*OWN, "packages"):
            shutil.rmtree(directory / name, ignore_errors=True)

    async def log_size(self, run: str) -> int:
        """Return how many bytes the job has printed so far; none before it starts."""
        try:
            return (self._directory(run) / "log.txt").stat().st_size
        except FileNotFoundError:
            return 0

    async def log(self, run: str, start: int, length: int) -> bytes:
        """Return some of what the job has printed; nothing before it starts."""
        try:
            with (self._directory(run) / "log.txt").open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            return b""

    async def metrics(self, run: str) -> bytes:
        """Return the end of the file to which the job reports metrics; nothing before there is one."""
        try:
            return _read_end(self._directory(run) / METRIC_FILE, METRIC_BYTES)
        except OSError:  # none yet; or a link, where no sandbox forbids it
            return b""


def _read_end(path: Path, limit: int) -> bytes:
    """Return the end of a plain file that others write: never what a link leads to, nor a pipe's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return b""
        file.seek(max(0, facts.st_size - limit))
        return file.read(limit)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return value
