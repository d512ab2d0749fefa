"""Submitting and waiting: deterministic job ids, adoption, new attempts, deadlines."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

from pipeline.errors import (
    EXIT_FINAL,
    JobConflict,
    JobFailed,
    JobFailedForGood,
    JobTimeout,
    PlatformError,
    PlatformUnavailable,
)
from pipeline.ml_engine.protocol import MLEngine, label_value
from pipeline.ml_engine.resources import Job, PredictionInput
from pipeline.ml_v1 import PACKAGES_REFUSED, JobState
from pipeline.patience import Clock, SystemClock
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

JobKey: TypeAlias = "tuple[str | int | None, ...]"  # names a piece of work

MAX_ATTEMPTS = 50
FINAL_EXIT = re.compile(rf"non-zero status of {EXIT_FINAL}\b")
REGION = "us-central1"


def job_id_of(*key: str | int | None, attempt: int = 0) -> str:
    """Return the id of the job that does the work named by a key, for the n-th time."""
    text = "\n".join([*(str(part) for part in key), str(attempt)])
    return f"graft_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def differing_field(existing: JsonValue, wanted: JsonValue, path: str = "") -> str | None:
    """Return the dotted name of the first thing in which two inputs differ, None if they are equal."""
    if isinstance(existing, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*existing, *wanted}):
            name = f"{path}.{key}" if path else str(key)
            if (key in existing) != (key in wanted):
                return name
            if (field := differing_field(existing[key], wanted[key], name)) is not None:
                return field
        return None
    return None if existing == wanted else path


def adopt_job(existing: Job, body: Job) -> Job:
    """Return an existing job if it was submitted with the body's input.

    Raises:
        JobConflict: naming the field that differs.
    """
    field = differing_field(_inputs_of(existing), _inputs_of(body))
    if field is None:
        return existing
    raise JobConflict(
        f"Job {body['jobId']} exists with another input: `{field}` differs. A job id cannot be used twice in "
        "its project; start a new run, whose jobs have other ids.",
        job_id=body["jobId"],
        field=field,
    )


def _inputs_of(job: Job) -> JsonValue:
    inputs = {"trainingInput": job.get("trainingInput"), "predictionInput": job.get("predictionInput")}
    return cast(JsonValue, inputs)


def submit_job(
    engine: MLEngine,
    key: JobKey,
    make_body: Callable[[str], Job],
    *,
    make_id: Callable[[int], str] | None = None,
    on_adopt: Callable[[str], None] | None = None,
    redo: bool = False,
) -> Job:
    """Submit the job of a key, or adopt the last one that is already doing, or has done, its work.

    A job that failed or was cancelled is left behind: the work gets the id of the next attempt.

    Args:
        engine: Where jobs run.
        key: What names the work, for instance (dag id, run id, task id, map index).
        make_body: Builds the v1 job for an id.
        make_id: Makes the id of the n-th attempt; from the key unless given.
        on_adopt: Called with the id of a job that exists already.
        redo: Whether a job that succeeded is left behind, too: the work is to be done again.

    Returns:
        The job, new or adopted.

    Raises:
        JobConflict: if the id is taken by a job with another input.
        PlatformError: if the API refuses, or after fifty lost attempts.
    """
    last: Job | None = None
    for attempt in range(MAX_ATTEMPTS):
        job_id = make_id(attempt) if make_id else job_id_of(*key, attempt=attempt)
        existing = engine.get_job(job_id)
        if existing is None and (last is None or _is_left_behind(last, redo)):
            return engine.create_job(make_body(job_id))
        if existing is None and last is not None:
            log.info("adopting job %s, which is %s", last["jobId"], last["state"])
            if on_adopt:
                on_adopt(last["jobId"])
            return adopt_job(last, make_body(last["jobId"]))
        last = existing
    raise PlatformError(f"{MAX_ATTEMPTS} jobs for {key} failed; look at their logs before trying again.")


def _is_left_behind(job: Job, redo: bool) -> bool:
    state = JobState(job["state"])
    if state.is_lost or (redo and state is JobState.SUCCEEDED):
        log.info("job %s ended %s; trying the next attempt", job["jobId"], state)
        return True
    return False


def raise_unless_succeeded(job: Job) -> Job:
    """Return a job that succeeded.

    Raises:
        JobFailed: with the job's own error message, if it failed and a new one may succeed.
        JobFailedForGood: if it was cancelled, or a new one would fail the same way.
    """
    state, text = JobState(job["state"]), job.get("errorMessage") or "no message"
    if state is JobState.SUCCEEDED:
        return job
    kind = JobFailed if state is JobState.FAILED and not _is_final(text) else JobFailedForGood
    raise kind(f"Job {job['jobId']} ended {state}: {text}", job_id=job["jobId"], state=str(state))


def _is_final(error_message: str) -> bool:
    """Return whether another job with the same input would fail with this message, too."""
    return error_message.startswith(PACKAGES_REFUSED) or FINAL_EXIT.search(error_message) is not None


def wait_for_job(
    engine: MLEngine,
    job_id: str,
    *,
    deadline_seconds: float,
    poll_seconds: float = 2.0,
    clock: Clock | None = None,
    on_state: Callable[[JobState], None] | None = None,
) -> Job:
    """Poll a job until it ends; an engine that does not answer is asked again until the deadline.

    Raises:
        JobFailed: if it ended FAILED or CANCELLED.
        JobTimeout: if it has not ended in time; it is left running.
    """
    clock = clock or SystemClock()
    deadline = clock.now() + deadline_seconds
    last: JobState | None = None
    while True:
        job = _look(engine, job_id)
        if job is not None:
            state = JobState(job["state"])
            if on_state and state is not last:
                on_state(state)
            last = state
            if state.is_terminal:
                return raise_unless_succeeded(job)
        if clock.now() >= deadline:
            raise JobTimeout(
                f"Job {job_id} is {last or 'unknown'} after {deadline_seconds:.0f} s; raise the deadline or "
                "look at its log.",
                job_id=job_id,
            )
        clock.sleep(poll_seconds)


def _look(engine: MLEngine, job_id: str) -> Job | None:
    try:
        job = engine.get_job(job_id)
    except PlatformUnavailable as error:
        log.warning("ML Engine does not answer (%s); asking again", error)
        return None
    if job is None:
        raise PlatformError(f"There is no job {job_id} in project {engine.project}.", status=404)
    return job


def training_job(
    job_id: str,
    *,
    package_uri: str,
    module: str,
    args: Sequence[str],
    job_dir: str,
    runtime_version: str,
    labels: Mapping[str, str],
    max_running_seconds: int,
) -> Job:
    """Build a v1 training job: one machine that installs a package and runs a module of it."""
    return {
        "jobId": job_id,
        "labels": {name: label_value(value) for name, value in labels.items()},
        "trainingInput": {
            "scaleTier": "BASIC",
            "region": REGION,
            "packageUris": [package_uri],
            "pythonModule": module,
            "args": args,
            "jobDir": job_dir,
            "runtimeVersion": runtime_version,
            "pythonVersion": "3.11",
            "scheduling": {"maxRunningTime": f"{max_running_seconds}s"},
        },
    }


def batch_prediction_job(
    job_id: str,
    *,
    input_uris: Sequence[str],
    output_path: str,
    runtime_version: str,
    labels: Mapping[str, str],
    model_uri: str | None = None,
    version_name: str | None = None,
    signature_name: str = "keyed",
) -> Job:
    """Build a v1 batch prediction job of a model directory or of a deployed version."""
    prediction: PredictionInput = {
        "dataFormat": "JSON",
        "outputDataFormat": "JSON",
        "region": REGION,
        "inputPaths": input_uris,
        "outputPath": output_path,
        "signatureName": signature_name,
    }
    if version_name:
        prediction["versionName"] = version_name
    elif model_uri:
        prediction |= {"uri": model_uri, "runtimeVersion": runtime_version}
    return {
        "jobId": job_id,
        "labels": {name: label_value(value) for name, value in labels.items()},
        "predictionInput": prediction,
    }
