"""Jobs: kept in the database, run one at a time per kind, picked up again after a restart."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import Any

from sqlalchemy import case, select

from pipeline.engine.backends import Backend, RunState, RunStatus, TrainingJob
from pipeline.engine.batch import BatchPredictor, check_prediction_input
from pipeline.engine.errors import as_fault, fault_text
from pipeline.engine.joblog import LogRange, log_piece
from pipeline.engine.paging import Page
from pipeline.engine.resources import (
    JobBody,
    PredictionInput,
    TrainingInput,
    check_name,
    raw_input,
    seconds_of,
)
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.store import Job, Store, etag, now, timestamp
from pipeline.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PipelineError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LOG_TAIL_BYTES = 2000
CANCELLED_BY_USER = "The job was cancelled by a client."


class JobState(StrEnum):
    """The life of a job; the wire spelling is the value."""

    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether the job stays in this state for ever."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Kind(StrEnum):
    """The two kinds of job; the value is the name of their input on the wire."""

    TRAINING = "trainingInput"
    PREDICTION = "predictionInput"


def job_to_wire(job: Job) -> dict[str, Any]:
    """Return the v1 resource; the input is echoed as it came."""
    wire: dict[str, Any] = {"jobId": job.job_id, job.kind: job.input, "createTime": job.create_time}
    optional = {"startTime": job.start_time, "endTime": job.end_time, "labels": job.labels}
    wire |= {key: value for key, value in optional.items() if value}
    wire["state"] = job.state
    if job.error_message:
        wire["errorMessage"] = job.error_message
    if job.kind == Kind.PREDICTION and job.output:
        wire["predictionOutput"] = job.output
    if job.kind == Kind.TRAINING and job.state == JobState.SUCCEEDED:
        wire["trainingOutput"] = job.output or {}
    return wire | {"etag": etag(wire)}


def failure_text(status: RunStatus, log_tail: bytes) -> str:
    """Return what users of ML Engine know from a failed job, with the end of its log."""
    tail = log_tail.decode(errors="replace").strip()
    if status.state == RunState.VANISHED:
        text = (
            "The job's processes are gone and left no exit code: they were killed, or the machine restarted."
        )
    elif status.preparing:
        text = (
            f"The packages could not be installed: pip exited with a non-zero status of {status.exit_code}."
        )
    else:
        code = status.exit_code
        text = f"The replica master 0 exited with a non-zero status of {code}. Termination reason: Error."
    return f"{text}\n\n{tail}" if tail else text


class Jobs:
    """The jobs of one project.

    Args:
        store: The database.
        project: The project in resource names.
        backend: Runs training jobs.
        predictor: Runs batch prediction jobs.
    """

    def __init__(self, store: Store, project: str, backend: Backend, predictor: BatchPredictor) -> None:
        self._store = store
        self._project = project
        self._backend = backend
        self._predictor = predictor
        self._news = {kind: asyncio.Event() for kind in Kind}
        self._slots: list[asyncio.Task[None]] = []

    def create(self, request: Any) -> dict[str, Any]:
        """Queue a job.

        Raises:
            AlreadyExists: if the id was ever used.
            InvalidArgument: naming the field that is wrong.
        """
        body = JobBody.read(request, where="job")
        check_name(body.job_id, field="job.job_id")
        kind = self._check_input(body)
        with self._store.begin() as session:
            if session.scalar(select(Job).filter_by(job_id=body.job_id)) is not None:
                raise AlreadyExists("A job with this id already exists.", field="job.job_id")
            job = Job(
                job_id=body.job_id,
                kind=kind,
                input=raw_input(request, kind),
                labels=body.labels,
                state=JobState.QUEUED,
                create_time=now(),
                start_time=None,
                end_time=None,
                error_message=None,
                output=None,
            )
            session.add(job)
        self._news[kind].set()
        return job_to_wire(job)

    def _check_input(self, body: JobBody) -> Kind:
        if (body.training_input is None) == (body.prediction_input is None):
            raise InvalidArgument(
                "Exactly one of training_input and prediction_input must be set.", field="job"
            )
        if body.training_input is not None:
            training = TrainingInput.read(body.training_input, where="training_input")
            find_runtime(training.runtime_version, training.python_version, where="training_input")
            return Kind.TRAINING
        prediction = PredictionInput.read(body.prediction_input, where="prediction_input")
        check_prediction_input(prediction, self._project)
        return Kind.PREDICTION

    def _row(self, job_id: str) -> Job:
        with self._store.begin() as session:
            job = session.scalar(select(Job).filter_by(job_id=job_id))
        if job is None:
            raise NotFound("The specified job was not found.", field="name")
        return job

    def get(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        return job_to_wire(self._row(job_id))

    def list(self, page: Page) -> dict[str, Any]:
        """Return the jobs, newest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.descending(select(Job), Job.seq)).all()
        return page.answer("jobs", rows, job_to_wire)

    def log(self, job_id: str, part: LogRange) -> dict[str, Any]:
        """Return a piece of what a training job has printed so far; a batch prediction prints nothing."""
        job = self._row(job_id)  # before the log is read: once a job has ended, nothing is added
        size = self._backend.log_size(job_id) if job.kind == Kind.TRAINING else 0
        start = part.start(size)
        data = self._backend.log(job_id, start, part.limit)
        is_last = JobState(job.state).is_terminal and start + len(data) >= size
        return log_piece(data, start, is_last=is_last)

    def cancel(self, job_id: str) -> dict[str, Any]:
        """Begin to cancel a job.

        Raises:
            FailedPrecondition: if it has ended.
        """
        job = self._row(job_id)
        if JobState(job.state).is_terminal:
            raise FailedPrecondition(f"The job has already ended; its state is {job.state}.", field="name")
        if job.state == JobState.QUEUED:
            self._change(job_id, state=JobState.CANCELLED, error_message=CANCELLED_BY_USER, end_time=now())
        else:
            self._change(job_id, state=JobState.CANCELLING, error_message=CANCELLED_BY_USER)
        return {}

    def _change(self, job_id: str, **values: Any) -> None:
        with self._store.begin() as session:
            job = session.scalars(select(Job).filter_by(job_id=job_id)).one()
            for name, value in values.items():
                setattr(job, name, value)
        if "state" in values:
            log.info("Job %s is %s.", job_id, values["state"])

    def start(self) -> None:
        """Begin to work off the queues; what ran when the engine died comes first."""
        self._slots = [asyncio.create_task(self._work(kind)) for kind in Kind]

    async def stop(self) -> None:
        """Stop watching; training jobs go on without the engine."""
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)

    def _next(self, kind: Kind) -> Job | None:
        ended = [state for state in JobState if state.is_terminal]
        live_first = case((Job.state == JobState.QUEUED, 1), else_=0)
        query = select(Job).filter_by(kind=kind).where(Job.state.not_in(ended)).order_by(live_first, Job.seq)
        with self._store.begin() as session:
            return session.scalars(query).first()

    async def _work(self, kind: Kind) -> None:
        run = self._train if kind == Kind.TRAINING else self._predict
        while True:
            job = self._next(kind)
            if job is None:
                self._news[kind].clear()
                await self._news[kind].wait()
                continue
            try:
                ending = await run(job)
            except PipelineError as error:
                ending = {"state": JobState.FAILED, "error_message": fault_text(as_fault(error))}
            except Exception:  # the edge of the task
                log.exception("Job %s could not be run.", job.job_id)
                ending = {"state": JobState.FAILED, "error_message": "The engine failed; see its log."}
            self._change(job.job_id, **{"end_time": now(), **ending})

    def _is_cancelling(self, job_id: str) -> bool:
        return self._row(job_id).state == JobState.CANCELLING

    async def _train(self, job: Job) -> dict[str, Any]:
        job_id = job.job_id
        if job.state == JobState.QUEUED:
            self._change(job_id, state=JobState.PREPARING)
        if not self._is_cancelling(job_id):
            await self._backend.start(_training_job(job))
        while not (status := self._backend.status(job_id)).is_over and status.state != RunState.ABSENT:
            if self._is_cancelling(job_id):
                break
            if status.state == RunState.RUNNING and self._row(job_id).state == JobState.PREPARING:
                self._change(job_id, state=JobState.RUNNING, start_time=_moment(status.started))
            await asyncio.sleep(POLL_SECONDS)
        await self._backend.stop(job_id)  # whatever the program left running, too
        return self._ending(job, self._backend.status(job_id))

    def _ending(self, job: Job, status: RunStatus) -> dict[str, Any]:
        if self._is_cancelling(job.job_id):
            return {"state": JobState.CANCELLED}
        times = {"end_time": _moment(status.ended)}
        if status.started is not None:
            times["start_time"] = _moment(status.started)
        if status.timed_out:
            limit = _training_job(job).max_running_seconds
            text = f"The job was cancelled because it ran longer than its maxRunningTime of {limit:g} s."
            return {"state": JobState.CANCELLED, "error_message": text, **times}
        if status.state == RunState.EXITED and status.exit_code == 0:
            return {"state": JobState.SUCCEEDED, **times}
        text = failure_text(status, self._log_tail(job.job_id))
        return {"state": JobState.FAILED, "error_message": text, **times}

    def _log_tail(self, job_id: str) -> bytes:
        start = max(0, self._backend.log_size(job_id) - LOG_TAIL_BYTES)
        return self._backend.log(job_id, start, LOG_TAIL_BYTES)

    async def _predict(self, job: Job) -> dict[str, Any]:
        value = PredictionInput.read(job.input, where="prediction_input")
        if not self._is_cancelling(job.job_id):
            self._change(job.job_id, state=JobState.RUNNING, start_time=job.start_time or now())
        running = asyncio.create_task(self._predictor.run(job.job_id, value))
        try:
            while not running.done():
                if self._is_cancelling(job.job_id):
                    return {"state": JobState.CANCELLED}
                await asyncio.wait([running], timeout=POLL_SECONDS)
            return {"state": JobState.SUCCEEDED, "output": running.result()}
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _moment(seconds: float | None) -> str:
    return now() if seconds is None else timestamp(seconds)


def _training_job(job: Job) -> TrainingJob:
    value = TrainingInput.read(job.input, where="training_input")
    return TrainingJob(
        job_id=job.job_id,
        package_uris=tuple(value.package_uris),
        python_module=value.python_module,
        args=tuple(value.args),
        job_dir=value.job_dir,
        max_running_seconds=seconds_of(value.scheduling.max_running_time),
    )
