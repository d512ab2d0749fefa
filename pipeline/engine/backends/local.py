"""Jobs as processes of this machine: each under a supervisor that outlives the engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from pipeline.engine.backends import RunState, RunStatus, TrainingJob, supervisor
from pipeline.engine.backends.supervisor import process_start, write_json
from pipeline.errors import Internal, InvalidArgument
from pipeline.storage import Storage

MARK = "GRAFT_ENGINE_JOB"  # in the environment of all that a job starts: what to end, whatever its session
PASSED_ON = frozenset(
    "PATH HOME LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH GRAFT_HOME GRAFT_BUCKETS GRAFT_BUCKET "
    "GOOGLE_APPLICATION_CREDENTIALS".split()
)
PASSED_PREFIXES = ("TF_", "OMP_", "KMP_", "KERAS_", "CUDA_")
PIP = (
    "-m",
    "pip",
    "install",
    "--quiet",
    "--no-input",
    "--disable-pip-version-check",
    "--no-warn-script-location",
)
# Only what the job names is installed; what it depends on is the runtime's.
PIP_OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--ignore-installed")


def job_environment(job_id: str, directory: Path, environ: dict[str, str]) -> dict[str, str]:
    """Return the variables a job sees: no secrets, its own packages first."""
    env = {
        key: value for key, value in environ.items() if key in PASSED_ON or key.startswith(PASSED_PREFIXES)
    }
    cluster = {"cluster": {}, "task": {"type": "master", "index": 0}, "environment": "cloud"}
    return env | {
        "CLOUD_ML_JOB_ID": job_id,
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONPATH": str(directory / "site"),
        "PYTHONUNBUFFERED": "1",
        "TF_CONFIG": json.dumps(cluster),
        "TF_ENABLE_ONEDNN_OPTS": "1",
        MARK: str(directory),
    }


def _package_path(directory: Path, index: int, uri: str) -> Path:
    name = urlsplit(uri).path.rpartition("/")[2]
    if not name.endswith((".tar.gz", ".whl", ".zip")) or name.startswith("."):
        raise InvalidArgument(
            f"A package is an sdist (.tar.gz, .zip) or a wheel (.whl). Received: {uri}",
            field="training_input.package_uris",
        )
    return directory / "packages" / str(index) / name


def marked_processes(directory: Path) -> list[psutil.Process]:
    """Return the living processes that a job started, in whatever session they are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(directory):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process_start(process.pid) is not None]


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def end_job(directory: Path, grace_seconds: float) -> None:
    """Send SIGTERM to everything of a job, SIGKILL after the grace, and wait until it is gone."""
    deadline = time.monotonic() + grace_seconds
    _signal_all(marked_processes(directory), signal.SIGTERM)
    while alive := marked_processes(directory):
        if time.monotonic() > deadline:
            _signal_all(alive, signal.SIGKILL)
        time.sleep(0.05)


def jobs_directory(home: Path) -> Path:
    """Return where the jobs of an engine live."""
    return home / "engine" / "jobs"


def stop_all_jobs(home: Path, *, grace_seconds: float = 3) -> list[str]:
    """End every job of an engine that is not running any more; return their ids."""
    ended = []
    for claim in sorted(jobs_directory(home.absolute()).glob("*/supervisor.json")):
        directory = claim.parent
        if not (directory / "exit.json").exists() or marked_processes(directory):
            end_job(directory, grace_seconds)
            ended.append(directory.name)
    return ended


class LocalBackend:
    """Runs jobs under `GRAFT_HOME/engine/jobs/<job id>/`.

    It does not isolate: a job is this user's process and may read what this user may.

    Args:
        home: The engine's `GRAFT_HOME`.
        storage: Where packages are fetched from.
        grace_seconds: Time between SIGTERM and SIGKILL.
    """

    def __init__(self, home: Path, storage: Storage, *, grace_seconds: float) -> None:
        self._jobs = jobs_directory(home)
        self._storage = storage
        self._grace_seconds = grace_seconds

    def _directory(self, job_id: str) -> Path:
        return self._jobs / job_id

    async def start(self, job: TrainingJob) -> None:
        """Fetch the packages and launch the supervisor; do nothing when one has the job."""
        directory = self._directory(job.job_id)
        if (directory / "supervisor.json").exists():
            return
        await asyncio.to_thread(self._prepare, job, directory)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", supervisor.__file__, str(directory)),
            stdin=asyncio.subprocess.DEVNULL,
            env=job_environment(job.job_id, directory, dict(os.environ)),
        )
        if await process.wait() not in (0, 3):
            raise Internal(f"The supervisor of job {job.job_id} did not start; see the engine's log.")

    def _prepare(self, job: TrainingJob, directory: Path) -> None:
        for name in ("site", "work"):
            (directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        packages = []
        for index, uri in enumerate(job.package_uris):
            path = _package_path(directory, index, uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._storage.read_bytes(uri))
            packages.append(str(path))
        write_json(directory / "job.json", self._plan(job, directory, packages))

    def _plan(self, job: TrainingJob, directory: Path, packages: list[str]) -> dict[str, Any]:
        install = [sys.executable, *PIP, *PIP_OFFLINE, "--target", str(directory / "site"), *packages]
        job_dir = ["--job-dir", job.job_dir] if job.job_dir else []
        return {
            "prepare": [install],
            "command": [sys.executable, "-m", job.python_module, *job.args, *job_dir],
            "cwd": str(directory / "work"),
            "env": job_environment(job.job_id, directory, dict(os.environ)),
            "max_running_seconds": job.max_running_seconds,
            "grace_seconds": self._grace_seconds,
        }

    def status(self, job_id: str) -> RunStatus:
        """Say where the job is, from its files and its supervisor's pid and start time."""
        directory = self._directory(job_id)
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
            ending = _read(directory / "exit.json")  # it may have ended between the two looks
        if ending is None:
            return RunStatus(state=RunState.VANISHED)
        running = _read(directory / "running.json")
        return RunStatus(
            state=RunState.EXITED,
            exit_code=ending["code"],
            timed_out=ending["timed_out"],
            preparing=ending["phase"] == "prepare",
            started=running["started"] if running else None,
            ended=ending["ended"],
        )

    async def stop(self, job_id: str) -> None:
        """End the job and everything it started."""
        await asyncio.to_thread(end_job, self._directory(job_id), self._grace_seconds)

    def log_size(self, job_id: str) -> int:
        """Return how many bytes the job has printed so far; none before it starts."""
        try:
            return (self._directory(job_id) / "log.txt").stat().st_size
        except FileNotFoundError:
            return 0

    def log(self, job_id: str, start: int, length: int) -> bytes:
        """Return some of what the job has printed; nothing before it starts."""
        try:
            with (self._directory(job_id) / "log.txt").open("rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError:
            return b""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return value
