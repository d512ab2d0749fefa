"""A training job as its backend runs it, and what its end means for the job's row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.engine.backends import Backend, RunState, RunStatus, TrainingJob
from pipeline.engine.store import JobRow, timestamp
from pipeline.engine.v1.distributed import DistributedTrainingInput
from pipeline.engine.v1.fields import seconds_of
from pipeline.engine.v1.responses import PredictionOutput
from pipeline.ml_v1 import PACKAGES_REFUSED, JobState

LOG_TAIL_BYTES = 2000
VANISHED = "The job's processes are gone and left no exit code: they were killed, or the machine restarted."


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """New values of a job's row; None leaves a value as it is.

    Args:
        state: Its state.
        error_message: Why it failed or was cancelled.
        start_time: When its program started.
        end_time: When it ended.
        output: `predictionOutput`.
        home: Where its processes are.
    """

    state: JobState
    error_message: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    output: PredictionOutput | None = None
    home: str | None = None


CANCELLED = JobChange(state=JobState.CANCELLED)


def training_job(job: JobRow) -> TrainingJob:
    """Return a job as its backend runs it."""
    value = DistributedTrainingInput.read(job.input, where="training_input")
    return TrainingJob(
        job_id=job.job_id,
        package_uris=tuple(value.package_uris),
        python_module=value.python_module,
        args=tuple(value.args),
        job_dir=value.job_dir,
        max_running_seconds=seconds_of(value.scheduling.max_running_time),
        training_input=job.input,
        replicas=value.replicas,
        num_gpus=value.num_gpus,
    )


def cancelled_waiting(job: JobRow) -> JobChange:
    """Return the end of a job that did not start in time."""
    limit = DistributedTrainingInput.read(job.input, where="training_input").scheduling.max_wait_time
    text = f"The job was cancelled because it did not start within its maxWaitTime of {limit}."
    return JobChange(state=JobState.CANCELLED, error_message=text)


def ran_too_long(job: TrainingJob) -> str:
    """Return the error message of a job that passed its maximum running time."""
    limit = job.max_running_seconds
    return f"The job was cancelled because it ran longer than its maxRunningTime of {limit:g} s."


def failure_text(status: RunStatus, log_tail: bytes) -> str:
    """Return the error message of a failed job: the text of ML Engine, with the end of the log."""
    tail = log_tail.decode(errors="replace").strip()
    if status.problem and status.preparing:
        text = f"{PACKAGES_REFUSED} {status.problem}"
    elif status.problem:
        text = status.problem
    elif status.state != RunState.EXITED:
        text = VANISHED
    elif status.preparing:
        text = f"The packages could not be installed: it ended with a non-zero status of {status.exit_code}."
    else:
        code = status.exit_code
        text = f"The replica master 0 exited with a non-zero status of {code}. Termination reason: Error."
    tail = tail.removesuffix(status.problem or text).strip()  # the log ends with it when the problem was ours
    return f"{text}\n\n{tail}" if tail else text


async def ending_of(job: TrainingJob, status: RunStatus, backend: Backend) -> JobChange:
    """Return what the end of a run means.

    Args:
        job: What ran.
        status: Its last status.
        backend: Has its log.
    """
    ending = JobChange(
        state=JobState.SUCCEEDED,
        start_time=None if status.started is None else timestamp(status.started),
        end_time=None if status.ended is None else timestamp(status.ended),
    )
    if status.timed_out:
        return replace(ending, state=JobState.CANCELLED, error_message=ran_too_long(job))
    if status.state == RunState.EXITED and status.exit_code == 0 and not status.problem:
        return ending
    start = max(0, await backend.log_size(job.run_id) - LOG_TAIL_BYTES)
    text = failure_text(status, await backend.log(job.run_id, start, LOG_TAIL_BYTES))
    return replace(ending, state=JobState.FAILED, error_message=text)
