"""Jobs: what clients say of them and may know of them. `JobRunner` runs them."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select

from pipeline.engine.backends import Backend
from pipeline.engine.jobs.batch import check_prediction_input
from pipeline.engine.jobs.log import LogRange, log_piece
from pipeline.engine.jobs.runner import JobRunner, Kind, queued
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.store import Job, Store, etag, now
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.resources import (
    JobBody,
    PredictionInput,
    Scheduling,
    TrainingInput,
    raw_input,
)
from pipeline.engine.v1.updates import JOB_FIELDS, read_update
from pipeline.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pipeline.ml_v1 import JobState

CANCELLED_BY_USER = "The job was cancelled by a client."


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
    return wire | {"etag": job_etag(job)}


def job_etag(job: Job) -> str:
    """Return a tag that changes when a client changes the job."""
    return etag({"jobId": job.job_id, "createTime": job.create_time, "labels": job.labels})


class Jobs:
    """The jobs of one project.

    Args:
        store: The database.
        project: The project in resource names.
        backend: Keeps the logs of training jobs.
        runner: Runs what is queued.
    """

    def __init__(self, store: Store, project: str, backend: Backend, runner: JobRunner) -> None:
        self._store = store
        self._project = project
        self._backend = backend
        self._runner = runner

    def create(self, request: Any) -> dict[str, Any]:
        """Queue a job.

        Raises:
            AlreadyExists: if the id was ever used.
            InvalidArgument: naming the field that is wrong.
        """
        body = JobBody.read(request, where="job")
        check_name(body.job_id, field="job.job_id")
        kind, scheduling = self._check_input(body)
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
                priority=scheduling.priority,
                start_before=scheduling.start_before(time.time()),
            )
            session.add(job)
        self._runner.wake(kind)
        return self._to_wire(job, self._positions())

    def _check_input(self, body: JobBody) -> tuple[Kind, Scheduling]:
        if (body.training_input is None) == (body.prediction_input is None):
            raise InvalidArgument(
                "Exactly one of training_input and prediction_input must be set.", field="job"
            )
        if body.training_input is not None:
            training = TrainingInput.read(body.training_input, where="training_input")
            find_runtime(training.runtime_version, training.python_version, where="training_input")
            return Kind.TRAINING, training.scheduling
        prediction = PredictionInput.read(body.prediction_input, where="prediction_input")
        check_prediction_input(prediction, self._project)
        return Kind.PREDICTION, Scheduling()

    def _row(self, job_id: str) -> Job:
        with self._store.begin() as session:
            job = session.scalar(select(Job).filter_by(job_id=job_id))
        if job is None:
            raise NotFound("The specified job was not found.", field="name")
        return job

    def get(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        job = self._row(job_id)
        return self._to_wire(job, self._positions() if job.state == JobState.QUEUED else {})

    def list(self, page: Page) -> dict[str, Any]:
        """Return the jobs, newest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.descending(select(Job), Job.seq)).all()
        positions = self._positions()
        return page.answer("jobs", rows, lambda job: self._to_wire(job, positions))

    def patch(self, job_id: str, request: Any, mask: str | None) -> dict[str, Any]:
        """Replace the labels of a job; nothing else of it can be changed.

        Raises:
            Aborted: if the mask names `etag`, and the request's is not the job's.
        """
        update = read_update(request, mask, JOB_FIELDS, where="job")
        with self._store.begin() as session:
            job = session.scalar(select(Job).filter_by(job_id=job_id))
            if job is None:
                raise NotFound("The specified job was not found.", field="name")
            update.check_etag(job_etag(job), is_asked=update.names_etag)
            job.labels = update.apply({"labels": job.labels}).get("labels", {})
        return self._to_wire(job, self._positions())

    def _positions(self) -> dict[str, int]:
        """Return the place of every queued job in its queue, from 1."""
        with self._store.begin() as session:
            ids = [queued(kind).with_only_columns(Job.job_id) for kind in Kind]
            queues = [session.scalars(query).all() for query in ids]
        return {job_id: place for queue in queues for place, job_id in enumerate(queue, start=1)}

    @staticmethod
    def _to_wire(job: Job, positions: dict[str, int]) -> dict[str, Any]:
        place = positions.get(job.job_id)
        return job_to_wire(job) | ({"jobPosition": str(place)} if place else {})

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
        ended = {"state": JobState.CANCELLED, "end_time": now()}
        change = ended if job.state == JobState.QUEUED else {"state": JobState.CANCELLING}
        self._runner.change(job_id, error_message=CANCELLED_BY_USER, **change)
        return {}
