"""Training jobs as submissions to a Ray cluster, in as many attempts as lost nodes make necessary."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

import pipeline
from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.backends.ray.group_backend import LEADER_CPUS
from pipeline.engine.backends.ray.jobs_api import RayJob, RayJobs
from pipeline.engine.backends.ray.replicas import CHIEF
from pipeline.engine.backends.run_files import STOPPED_CODE, AttemptFiles, Ending, JobFile
from pipeline.engine.backends.run_log import RunLog
from pipeline.engine.settings import EngineSettings
from pipeline.errors import ConfigError, FailedPrecondition, InvalidArgument, PipelineError, Unavailable
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

log = logging.getLogger(__name__)

NODE = "pipeline.engine.backends.ray.node"
FOR_JOBS = (  # of the engine's settings; what else a node needs, its own environment has
    *("training_slots", "job_memory_bytes", "job_cpus", "job_processes", "job_nice", "job_restarts"),
    *("job_log_bytes", "job_paths", "max_package_bytes", "sandbox", "cancel_grace_seconds"),
    *("ray_python", "ray_driver_python"),
)
STOP_SECONDS = 20.0  # more than the grace that a program has: to send its log
WAIT_SECONDS = 1.0
NOT_GRAFT = (1, 2, 126, 127)  # exit statuses of an interpreter or a shell that finds no Graft
_BUCKET = re.compile(r"gs://([\w.-]+)")


def submission_id(run: str, attempt: int) -> str:
    """Return the id of an attempt in Ray."""
    return f"{run}-{attempt}"


class RayBackend:
    """Runs jobs on a Ray cluster; their files are under `engine/ray/` of the workspace.

    The bucket has the truth. Ray says which attempts live; an attempt that it has no more, and that has not
    written how it ended, is lost, and the next one is submitted, `job_restarts` times.

    Args:
        storage: Has the buckets.
        settings: The limits of jobs.
        workspace: URI of the workspace.
        ray: The cluster.
    """

    poll_seconds = 2.0
    is_local = False
    has_replicas = True

    def __init__(self, storage: Storage, settings: EngineSettings, *, workspace: str, ray: RayJobs) -> None:
        self._storage = storage
        self._settings = settings
        self._workspace = workspace
        self._ray = ray
        self._jobs: dict[str, tuple[int, JobFile]] = {}  # the last attempt of each run that lives
        self._last: dict[str, RunStatus] = {}
        self._check_bucket(workspace, ConfigError)

    def _check_bucket(self, uri: str, error: type[PipelineError]) -> None:
        """Check that other machines reach the buckets that a text names."""
        for name in _BUCKET.findall(uri):
            if name in self._storage.directories and not self._settings.ray_shares_directories:
                raise error(
                    f"gs://{name} is the directory {self._storage.directories[name]}, which the nodes of Ray "
                    "do not reach. Use a bucket of Google's or of an S3-compatible store (GRAFT_BUCKETS), or "
                    "set GRAFT_ENGINE_RAY_SHARES_DIRECTORIES=true if all of them have this directory."
                )

    def _files(self, run: str, attempt: int) -> AttemptFiles:
        return AttemptFiles(self._storage, f"{self._workspace}/engine/ray/{run}/{attempt}")

    async def _find(self, run: str) -> tuple[int, JobFile] | None:
        """Return the number and the file of the last attempt of a run; None if it has none."""
        if run not in self._jobs and (last := await asyncio.to_thread(self._read_last, run)):
            self._jobs[run] = last
        return self._jobs.get(run)

    def _read_last(self, run: str) -> tuple[int, JobFile] | None:
        last = None
        for attempt in range(1, self._settings.job_restarts + 2):
            if (job := self._files(run, attempt).read_job()) is None:
                break
            last = attempt, job
        return last

    async def start(self, job: TrainingJob) -> None:
        """Write what to run, and submit it; do nothing when that was done before.

        While Ray does not answer, the job waits.

        Raises:
            InvalidArgument: if it names a bucket that is a directory of this machine.
        """
        if await self._find(job.run_id) is None:
            for text in (*job.package_uris, *job.args, job.job_dir or ""):
                self._check_bucket(text, InvalidArgument)
            await self._begin(job.run_id, 1, self._job_file(job))
        attempt, file = self._jobs[job.run_id]
        if await asyncio.to_thread(self._files(job.run_id, attempt).ending) is None:
            await self._submit(job.run_id, attempt, file)

    def _job_file(self, job: TrainingJob) -> JobFile:
        return JobFile(
            key=uuid.uuid4().hex,
            version=pipeline.__version__,
            workspace=self._workspace,
            job=job,
            settings={name: getattr(self._settings, name) for name in FOR_JOBS},
        )

    async def _begin(self, run: str, attempt: int, file: JobFile) -> None:
        written = await asyncio.to_thread(self._files(run, attempt).create_job, file)
        self._jobs[run] = attempt, written

    async def _submit(self, run: str, attempt: int, file: JobFile) -> None:
        name = submission_id(run, attempt)
        try:
            await self._ray.submit(name, file.key, self._request(run, attempt, file.job))
        except Unavailable as error:
            log.warning("%s The submission %s is repeated.", error, name)

    def _request(self, run: str, attempt: int, job: TrainingJob) -> JsonObject:
        """Return what Ray shows to whoever has its token, and logs: it holds no secret."""
        addresses = self._storage.addresses.items()
        buckets = ",".join(
            f"{name}={address}"
            for name, address in addresses
            if self._settings.ray_shares_directories or not isinstance(address, Path)
        )
        words = (
            *shlex.split(self._settings.ray_python),
            *("-P", "-m", NODE, self._files(run, attempt).job_uri, f"--buckets={buckets}"),
        )
        wait = self._settings.cancel_grace_seconds + STOP_SECONDS
        request: dict[str, JsonValue] = {
            "entrypoint": f"exec {shlex.join(words)}",
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": f"{wait:.0f}"}},
            "entrypoint_num_cpus": self._settings.job_cpus or 1,
        }
        if job.replicas:  # each of them takes what it needs
            return request | {"entrypoint_num_cpus": LEADER_CPUS}
        if self._settings.job_memory_bytes:
            request["entrypoint_memory"] = self._settings.job_memory_bytes
        if num_gpus := job.num_gpus.get(CHIEF):
            request["entrypoint_num_gpus"] = num_gpus
        return request

    async def statuses(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the state of each of the runs; Ray is asked once for all of them."""
        jobs: Mapping[str, RayJob] | None = {}
        if runs:
            try:
                jobs = await self._ray.list_jobs()
            except (Unavailable, FailedPrecondition, ConfigError) as error:
                log.warning("%s Its jobs are taken to go on.", error)
                jobs = None
        statuses = await asyncio.gather(*(self._status(run, jobs) for run in runs))
        return dict(zip(runs, statuses, strict=True))

    async def _status(self, run: str, jobs: Mapping[str, RayJob] | None) -> RunStatus:
        last = await self._find(run)
        if last is None:
            return RunStatus(state=RunState.ABSENT)
        attempt, file = last
        job = jobs.get(submission_id(run, attempt)) if jobs is not None else None
        if job is not None and job.key == file.key and not job.is_over:
            return await self._living(run, attempt)
        ending = await asyncio.to_thread(self._files(run, attempt).ending)
        if ending is None and jobs is None:
            return self._last.get(run, RunStatus(state=RunState.PREPARING))
        if ending is None:
            ending = await self._missing_ending(run, attempt, file)
        if ending is None:
            return self._last.get(run, RunStatus(state=RunState.PREPARING))
        if ending.is_lost and attempt <= self._settings.job_restarts:
            return await self._next_attempt(run, attempt, file, ending)
        return ending.status

    async def _living(self, run: str, attempt: int) -> RunStatus:
        status = self._last.get(run, RunStatus(state=RunState.PREPARING))
        if status.state != RunState.RUNNING:
            started = await asyncio.to_thread(self._files(run, attempt).started)
            if started is not None:
                status = RunStatus(state=RunState.RUNNING, started=started)
        self._last[run] = status
        return status

    async def _missing_ending(self, run: str, attempt: int, file: JobFile) -> Ending | None:
        """Return how an attempt ended that seems not to live and wrote nothing; None if it goes on."""
        files, name = self._files(run, attempt), submission_id(run, attempt)
        try:
            job = await self._ray.get(name)  # the list may be older than the submission
        except Unavailable:
            return None
        if job is not None and (job.key != file.key or not job.is_over):
            return None
        is_claimed = await asyncio.to_thread(files.is_claimed)
        if job is None and not is_claimed:
            await self._submit(run, attempt, file)
            return None
        started = await asyncio.to_thread(files.started)
        ending = self._lost_ending(job, started, is_claimed=is_claimed)
        log.warning("Attempt %d of %s ended without a record: %s", attempt, run, ending.problem)
        if await asyncio.to_thread(files.end, ending):
            return ending
        return await asyncio.to_thread(files.ending)  # the node was a moment faster

    def _lost_ending(self, job: RayJob | None, started: float | None, *, is_claimed: bool) -> Ending:
        words = f"Ray says: {job.message}" if job else f"Ray at {self._ray.address} knows it no more."
        code, problem, is_lost = None, f"The job was lost with its node. {words}", True
        if job and job.status == "STOPPED":
            code, problem, is_lost = STOPPED_CODE, "The job was stopped in Ray, not by this engine.", False
        elif job and not is_claimed and job.exit_code in NOT_GRAFT:
            code, is_lost = job.exit_code, False
            problem = (
                f"The node could not run Graft by {self._settings.ray_python!r}. Install Graft "
                f"{pipeline.__version__} where Ray runs, or name its interpreter in "
                f"GRAFT_ENGINE_RAY_PYTHON. {words}"
            )
        return Ending(code=code, problem=problem, started=started, ended=time.time(), is_lost=is_lost)

    async def _next_attempt(self, run: str, attempt: int, file: JobFile, ending: Ending) -> RunStatus:
        used = (ending.ended or 0) - ending.started if ending.started else 0.0
        await self._begin(run, attempt + 1, file.after(used))
        self._last[run] = RunStatus(state=RunState.PREPARING)
        log.warning("Attempt %d of %s begins.", attempt + 1, run)
        await self._submit(run, *self._jobs[run])
        return self._last[run]

    async def stop(self, run: str) -> None:
        """End the last attempt and everything it started; return when Ray runs none of it.

        Raises:
            Unavailable: if Ray does not answer while the attempt may live.
        """
        last = await self._find(run)
        if last is None:
            return
        attempt, file = last
        files, name = self._files(run, attempt), submission_id(run, attempt)
        is_ours = await asyncio.to_thread(files.end, Ending.stopped())  # no attempt follows, whatever comes
        ending = None if is_ours else await asyncio.to_thread(files.ending)
        if ending is None or ending.is_stopped:  # else its node has ended everything, or is lost
            await self._end(name, file.key)
        for number in range(1, attempt + 1):
            await self._forget(submission_id(run, number), file.key)
        self._jobs.pop(run, None)
        self._last.pop(run, None)

    async def _end(self, name: str, key: str) -> None:
        deadline = time.monotonic() + self._settings.cancel_grace_seconds + 6 * STOP_SECONDS
        job = await self._ray.get(name)
        if job is None or job.key != key:
            return
        await self._ray.stop(name)
        while (job := await self._ray.get(name)) is not None and not job.is_over:
            if time.monotonic() > deadline:
                raise Unavailable(f"Ray at {self._ray.address} has not ended {name} yet.")
            await asyncio.sleep(WAIT_SECONDS)

    async def _forget(self, name: str, key: str) -> None:
        """Let Ray forget an attempt that has ended; what it does not is only memory of its head."""
        try:
            job = await self._ray.get(name)
            if job is not None and job.key == key and job.is_over:
                await self._ray.delete(name)
        except PipelineError as error:
            log.warning("%s", error)

    async def _log(self, run: str) -> RunLog:
        last = await self._find(run)
        return await asyncio.to_thread(self._read_log, run, last[0] if last else 0)

    def _read_log(self, run: str, last: int) -> RunLog:
        attempts = (tuple(self._files(run, attempt).log_pieces()) for attempt in range(1, last + 1))
        return RunLog(attempts=tuple(attempts))

    async def log_size(self, run: str) -> int:
        """Return how many bytes of its log are in the bucket."""
        return (await self._log(run)).size

    async def log(self, run: str, start: int, length: int) -> bytes:
        """Return some of what its attempts have printed."""
        log = await self._log(run)
        return await asyncio.to_thread(log.read, self._storage, start, length)

    async def metrics(self, run: str) -> bytes:
        """Return the end of the file to which its last attempt reports metrics."""
        last = await self._find(run)
        return await asyncio.to_thread(self._files(run, last[0]).metrics) if last else b""
