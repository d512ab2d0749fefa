"""The jobs of a project as clients see them. `JobRunner` runs them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.backends import Backend, run_id
from pipeline.engine.jobs.batch import check_prediction_input
from pipeline.engine.jobs.log import LogRange, log_piece
from pipeline.engine.jobs.runner import JobRunner, Kind, queued
from pipeline.engine.jobs.training import JobChange
from pipeline.engine.jobs.trials import TrialRecord, read_trials, training_output, tuning_spec
from pipeline.engine.runtimes import find_runtime
from pipeline.engine.store import JobRow, Store, etag, now
from pipeline.engine.v1.distributed import DistributedTrainingInput
from pipeline.engine.v1.fields import check_name
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.engine.v1.paging import Page
from pipeline.engine.v1.patches import JOB_FIELDS, read_update
from pipeline.engine.v1.resources import JobBody, PredictionInput, Scheduling, TrainingInput
from pipeline.engine.v1.responses import Empty, Job, JobList, JobLog, PredictionOutput
from pipeline.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from pipeline.ml_v1 import JobState
from pipeline.types import JsonValue

CANCELLED_BY_USER = "The job was cancelled by a client."


def job_resource(job: JobRow, position: int | None = None, trials: Sequence[TrialRecord] = ()) -> Job:
    """Return the v1 resource of a job.

    Args:
        job: The row.
        position: Its position in the queue, from 1; None unless it is queued.
        trials: The trials of a hyperparameter tuning job.
    """
    is_training = job.kind == Kind.TRAINING
    output = PredictionOutput.model_validate(job.output) if job.output and not is_training else None
    return Job(
        job_id=job.job_id,
        training_input=job.input if is_training else None,
        prediction_input=None if is_training else job.input,
        create_time=job.create_time,
        start_time=job.start_time,
        end_time=job.end_time,
        labels=job.labels or None,
        state=JobState(job.state),
        error_message=job.error_message or None,
        prediction_output=output,
        training_output=training_output(job, trials) if is_training else None,
        etag=job_etag(job),
        job_position=str(position) if position else None,
    )


def job_etag(job: JobRow) -> str:
    """Return a tag that changes when a client changes the job."""
    return etag({"jobId": job.job_id, "createTime": job.create_time, "labels": job.labels})


def _find(session: Session, job_id: str) -> JobRow:
    job = session.scalar(select(JobRow).filter_by(job_id=job_id))
    if job is None:
        raise NotFound("The specified job was not found.", field="name")
    return job


class Jobs:
    """The jobs of one project.

    Args:
        store: The database.
        project: The project in resource names.
        workspace: URI of the workspace.
        backend: Keeps the logs of training jobs.
        runner: Runs queued jobs.
        aliases: Names that stand for runtimes.
    """

    def __init__(
        self,
        store: Store,
        project: str,
        workspace: str,
        backend: Backend,
        runner: JobRunner,
        *,
        aliases: Mapping[str, str],
    ) -> None:
        self._store = store
        self._project = project
        self._workspace = workspace
        self._backend = backend
        self._runner = runner
        self._aliases = aliases

    def create(self, request: JsonValue) -> Job:
        """Queue a job.

        Raises:
            AlreadyExists: if the id was ever used.
            InvalidArgument: naming the field that is wrong.
        """
        body = JobBody.read(request, where="job")
        check_name(body.job_id, field="job.job_id")
        kind, scheduling = self._check_input(body)
        with self._store.begin() as session:
            if session.scalar(select(JobRow).filter_by(job_id=body.job_id)) is not None:
                raise AlreadyExists("A job with this id already exists.", field="job.job_id")
            job = JobRow(
                job_id=body.job_id,
                kind=kind,
                input=body.training_input or body.prediction_input or {},
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
        return self._resource(job, self._positions().get(job.job_id))

    def _check_input(self, body: JobBody) -> tuple[Kind, Scheduling]:
        if (body.training_input is None) == (body.prediction_input is None):
            raise InvalidArgument(
                "Exactly one of training_input and prediction_input must be set.", field="job"
            )
        if body.training_input is not None:
            kind = DistributedTrainingInput if self._backend.has_replicas else TrainingInput
            training = kind.read(body.training_input, where="training_input")
            where = "training_input"
            version, python = training.runtime_version, training.python_version
            find_runtime(version, python, where=where, aliases=self._aliases)
            if training.hyperparameters:
                self._check_resumed(training.hyperparameters)
            return Kind.TRAINING, training.scheduling
        prediction = PredictionInput.read(body.prediction_input, where="prediction_input")
        check_prediction_input(prediction, self._project, self._workspace, aliases=self._aliases)
        return Kind.PREDICTION, Scheduling()

    def _check_resumed(self, spec: HyperparameterSpec) -> None:
        """Check that the job which a study resumes is one, has ended and has the same parameters."""
        if not spec.resume_previous_job_id:
            return
        field = "training_input.hyperparameters.resume_previous_job_id"
        with self._store.begin() as session:
            job = session.scalar(select(JobRow).filter_by(job_id=spec.resume_previous_job_id))
        previous = tuning_spec(job) if job and job.kind == Kind.TRAINING else None
        if job is None or previous is None:
            text = "There is no hyperparameter tuning job with this id."
            raise InvalidArgument(f"{text} Received: {spec.resume_previous_job_id!r}", field=field)
        if not JobState(job.state).is_terminal:
            raise FailedPrecondition(
                f"The job to resume has not ended; its state is {job.state}.", field=field
            )
        if previous.signature() != spec.signature():
            text = "Its goal, its metric, and the names and types of its parameters should be the same."
            raise InvalidArgument(f"The job {job.job_id} tunes something else. {text}", field=field)

    def _resource(self, job: JobRow, position: int | None = None) -> Job:
        trials: Sequence[TrialRecord] = ()
        if job.kind == Kind.TRAINING and tuning_spec(job):
            with self._store.begin() as session:
                trials = read_trials(session, job.job_id)
        return job_resource(job, position, trials)

    def _row(self, job_id: str) -> JobRow:
        with self._store.begin() as session:
            return _find(session, job_id)

    def get(self, job_id: str) -> Job:
        """Return one job."""
        job = self._row(job_id)
        positions = self._positions() if job.state == JobState.QUEUED else {}
        return self._resource(job, positions.get(job_id))

    def list(self, page: Page) -> JobList:
        """Return the jobs, newest first."""
        with self._store.begin() as session:
            rows = session.scalars(page.descending(select(JobRow), JobRow.seq)).all()
        positions = self._positions()
        jobs, token = page.select(rows, lambda job: self._resource(job, positions.get(job.job_id)))
        return JobList(jobs=jobs, next_page_token=token)

    def patch(self, job_id: str, request: JsonValue, mask: str | None) -> Job:
        """Replace the labels of a job; nothing else of it can be changed.

        Raises:
            Aborted: if the mask names `etag`, and the request's is not the job's.
        """
        update = read_update(request, mask, JOB_FIELDS, where="job")
        with self._store.begin() as session:
            job = _find(session, job_id)
            update.check_etag(job_etag(job), only_if_named=True)
            job.labels = update.body.labels
        return self._resource(job, self._positions().get(job_id))

    def _positions(self) -> dict[str, int]:
        """Return the position of every queued job in its queue, from 1."""
        with self._store.begin() as session:
            ids = [queued(kind).with_only_columns(JobRow.job_id) for kind in Kind]
            queues = [session.scalars(query).all() for query in ids]
        return {job_id: position for queue in queues for position, job_id in enumerate(queue, start=1)}

    async def log(self, job_id: str, part: LogRange, trial_id: str = "") -> JobLog:
        """Return a piece of what a training job, or one of its trials, has printed so far.

        A batch prediction prints nothing, and of a tuning job only the trials do.
        """
        job = self._row(job_id)  # before the log is read: once a job has ended, nothing is added
        if trial_id and not (trial_id.isdecimal() and trial_id.isascii()):
            raise InvalidArgument(
                f"Expected the number of a trial. Received: {trial_id[:40]!r}", field="trial"
            )
        run = run_id(job_id, trial_id)
        size = await self._backend.log_size(run) if job.kind == Kind.TRAINING else 0
        start = part.start(size)
        data = await self._backend.log(run, start, part.limit)
        is_last = JobState(job.state).is_terminal and start + len(data) >= size
        return log_piece(data, start, is_last=is_last)

    def cancel(self, job_id: str) -> Empty:
        """Begin to cancel a job.

        Raises:
            FailedPrecondition: if it has ended.
        """
        job = self._row(job_id)
        if JobState(job.state).is_terminal:
            raise FailedPrecondition(f"The job has already ended; its state is {job.state}.", field="name")
        change = JobChange(state=JobState.CANCELLING, error_message=CANCELLED_BY_USER)
        if job.state == JobState.QUEUED:
            change = JobChange(state=JobState.CANCELLED, error_message=CANCELLED_BY_USER, end_time=now())
        self._runner.change(job_id, change)
        return Empty()
