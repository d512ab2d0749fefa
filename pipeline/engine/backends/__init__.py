"""Where jobs run: the local backend; others keep the same protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pipeline.types import JsonObject


class RunState(StrEnum):
    """The state of a job on its backend."""

    ABSENT = "absent"
    PREPARING = "preparing"
    RUNNING = "running"
    EXITED = "exited"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """A training job as its backend runs it.

    Args:
        job_id: The id of its job, used once for ever.
        package_uris: What is installed.
        python_module: What is run.
        args: Its command line.
        job_dir: Appended to it as `--job-dir`.
        max_running_seconds: When it is stopped, counted from the start of its program.
        training_input: The input as the client sent it, for `TF_CONFIG`.
        trial_id: The trial of a hyperparameter tuning job that it is; empty if it is none.
        metric_tag: The metric that is tuned.
        replicas: How many replicas it has of each role besides the chief: `worker`, `ps`, `evaluator`.
        num_gpus: How many GPUs each replica of a role has.
        tf_config: The `TF_CONFIG` of a replica; None for a job that is one, and finds its own address.
    """

    job_id: str
    package_uris: tuple[str, ...]
    python_module: str
    args: tuple[str, ...]
    job_dir: str | None
    max_running_seconds: float
    training_input: JsonObject
    trial_id: str = ""
    metric_tag: str = ""
    replicas: dict[str, int] = field(default_factory=dict)
    num_gpus: dict[str, int] = field(default_factory=dict)
    tf_config: JsonObject | None = None

    @property
    def run_id(self) -> str:
        """The name of its run on the backend."""
        return run_id(self.job_id, self.trial_id)


def run_id(job_id: str, trial_id: str = "") -> str:
    """Return the name of the run of a job or of a trial; no job id has a full stop."""
    return f"{job_id}.{trial_id}" if trial_id else job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The state of a run, and how it ended.

    Args:
        state: Its state.
        exit_code: 0 to 255, once EXITED.
        timed_out: Whether it was stopped because it passed its maximum running time.
        problem: Why the supervisor ended it, if it did.
        preparing: Whether what ended was the installation of its packages.
        started: When its program began, in seconds of the epoch.
        ended: When it ended.
    """

    state: RunState
    exit_code: int | None = None
    timed_out: bool = False
    problem: str = ""
    preparing: bool = False
    started: float | None = None
    ended: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in (RunState.EXITED, RunState.VANISHED)


class Backend(Protocol):
    """Runs training jobs, and the trials of some, that outlive the engine; each has a run id.

    Every call may wait for another machine.
    """

    @property
    def poll_seconds(self) -> float:
        """How long to wait between two calls of `statuses`."""

    @property
    def is_local(self) -> bool:
        """Whether jobs are processes of the engine's machine, which another engine does not reach."""

    @property
    def has_replicas(self) -> bool:
        """Whether a job may have several replicas."""

    async def start(self, job: TrainingJob) -> None:
        """Fetch the packages and launch the job; do nothing when it was launched before."""

    async def statuses(self, runs: Collection[str]) -> Mapping[str, RunStatus]:
        """Return the state of each of the runs."""

    async def stop(self, run: str) -> None:
        """End the job and everything it started; return when none of it is left."""

    async def log_size(self, run: str) -> int:
        """Return how many bytes the job has printed so far."""

    async def log(self, run: str, start: int, length: int) -> bytes:
        """Return some of what the job has printed."""

    async def metrics(self, run: str) -> bytes:
        """Return the end of the file to which the job reports metrics."""
