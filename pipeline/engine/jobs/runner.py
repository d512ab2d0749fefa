"""The queue of jobs: so many at a time of each kind, the more urgent and the older first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, func, select

from pipeline.engine.backends import Backend, RunState, RunStatus, TrainingJob
from pipeline.engine.jobs.batch import BatchPredictor
from pipeline.engine.store import Job, Store, now, timestamp
from pipeline.engine.v1.errors import as_api_error, error_text
from pipeline.engine.v1.fields import seconds_of
from pipeline.engine.v1.resources import PredictionInput, TrainingInput
from pipeline.errors import PipelineError
from pipeline.ml_v1 import JobState

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
LOG_TAIL_BYTES = 2000
VANISHED = "The job's processes are gone and left no exit code: they were killed, or the machine restarted."


class Kind(StrEnum):
    """The two kinds of job; the value is the name of their input on the wire."""

    TRAINING = "trainingInput"
    PREDICTION = "predictionInput"


LIVE = (JobState.PREPARING, JobState.RUNNING, JobState.CANCELLING)
Ending = dict[str, Any]


def failure_text(status: RunStatus, log_tail: bytes) -> str:
    """Return what users of ML Engine know from a failed job, with the end of its log."""
    tail = log_tail.decode(errors="replace").strip()
    if status.problem:
        text = status.problem
    elif status.state != RunState.EXITED:
        text = VANISHED
    elif status.preparing:
        text = f"The packages could not be installed: it ended with a non-zero status of {status.exit_code}."
    else:
        code = status.exit_code
        text = f"The replica master 0 exited with a non-zero status of {code}. Termination reason: Error."
    tail = tail.removesuffix(text).strip()  # the log ends with it when the problem was ours
    return f"{text}\n\n{tail}" if tail else text


def queued(kind: str) -> Select[Job]:
    """Return the query of a queue, what runs next first."""
    query = select(Job).filter_by(kind=kind, state=JobState.QUEUED)
    return query.order_by(Job.priority.desc(), Job.seq)


class JobRunner:
    """Works off the queues; training jobs go on without it and are taken up again.

    Args:
        store: The database.
        backend: Runs training jobs.
        predictor: Runs batch prediction jobs.
        slots: How many jobs of each kind run at a time.
    """

    def __init__(
        self, store: Store, backend: Backend, predictor: BatchPredictor, slots: Mapping[Kind, int]
    ) -> None:
        self._store = store
        self._backend = backend
        self._predictor = predictor
        self._slots = slots
        self._news = {kind: asyncio.Event() for kind in Kind}
        self._queues: list[asyncio.Task[None]] = []
        self._running: dict[Kind, set[asyncio.Task[None]]] = {kind: set() for kind in Kind}

    def wake(self, kind: Kind) -> None:
        """Look at a queue again: something was added."""
        self._news[kind].set()

    def change(self, job_id: str, **values: Any) -> None:
        """Write down what became of a job."""
        with self._store.begin() as session:
            job = session.scalars(select(Job).filter_by(job_id=job_id)).one()
            for name, value in values.items():
                setattr(job, name, value)
        if "state" in values:
            log.info("Job %s is %s.", job_id, values["state"])

    def start(self) -> None:
        """Begin to work off the queues; what ran when the engine died comes first, whatever the slots."""
        self._predictor.clean()
        for kind in Kind:
            with self._store.begin() as session:
                live = session.scalars(select(Job).filter_by(kind=kind).where(Job.state.in_(LIVE))).all()
            for job in live:
                self._spawn(kind, job)
        self._queues = [asyncio.create_task(self._work(kind)) for kind in Kind]

    async def stop(self) -> None:
        """Stop watching; training jobs go on without the engine."""
        tasks = [*self._queues, *(task for running in self._running.values() for task in running)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, kind: Kind) -> None:
        while True:
            self._news[kind].clear()
            self._expire(kind)
            while len(self._running[kind]) < self._slots[kind] and (job := self._next(kind)):
                self.change(job.job_id, state=JobState.PREPARING)
                job.state = JobState.PREPARING
                self._spawn(kind, job)
            try:
                await asyncio.wait_for(self._news[kind].wait(), self._seconds_to_expiry(kind))
            except TimeoutError:
                continue

    def _next(self, kind: Kind) -> Job | None:
        with self._store.begin() as session:
            return session.scalars(queued(kind).limit(1)).first()

    def _spawn(self, kind: Kind, job: Job) -> None:
        task = asyncio.create_task(self._run(kind, job))
        self._running[kind].add(task)
        task.add_done_callback(self._running[kind].discard)
        task.add_done_callback(lambda _: self.wake(kind))

    def _seconds_to_expiry(self, kind: Kind) -> float | None:
        query = select(func.min(Job.start_before)).filter_by(kind=kind, state=JobState.QUEUED)
        with self._store.begin() as session:
            moment = session.scalar(query)
        return None if moment is None else max(0.05, moment - time.time())

    def _expire(self, kind: Kind) -> None:
        with self._store.begin() as session:
            late = session.scalars(queued(kind).where(Job.start_before <= time.time())).all()
        for job in late:
            self.change(job.job_id, state=JobState.CANCELLED, error_message=_waited(job), end_time=now())

    async def _run(self, kind: Kind, job: Job) -> None:
        work = self._train if kind == Kind.TRAINING else self._predict
        try:
            ending = await work(job)
        except PipelineError as error:
            ending = {"state": JobState.FAILED, "error_message": error_text(as_api_error(error))}
        except Exception:  # the edge of the task
            log.exception("Job %s could not be run.", job.job_id)
            ending = {"state": JobState.FAILED, "error_message": "The engine failed; see its log."}
        if kind == Kind.TRAINING:
            await self._backend.stop(job.job_id)  # whatever the program left running, too
        if self._state(job) == JobState.CANCELLING:  # it was told so, whatever it came to meanwhile
            ending = {"state": JobState.CANCELLED}
        self.change(job.job_id, **{"end_time": now(), **ending})

    def _state(self, job: Job) -> JobState:
        with self._store.begin() as session:
            return JobState(session.scalars(select(Job.state).filter_by(job_id=job.job_id)).one())

    async def _train(self, job: Job) -> Ending:
        if self._state(job) == JobState.PREPARING:
            await self._backend.start(training_job(job))
        return await self._watch(job)

    async def _watch(self, job: Job) -> Ending:
        while not (status := self._backend.status(job.job_id)).is_over and status.state != RunState.ABSENT:
            state = self._state(job)
            if state == JobState.CANCELLING:
                return {}
            if state == JobState.PREPARING and status.state == RunState.RUNNING:
                self.change(job.job_id, state=JobState.RUNNING, start_time=_moment(status.started))
            elif state == JobState.PREPARING and job.start_before and job.start_before < time.time():
                return {"state": JobState.CANCELLED, "error_message": _waited(job)}
            await asyncio.sleep(POLL_SECONDS)
        return self._ending(job, status)

    def _ending(self, job: Job, status: RunStatus) -> Ending:
        times = {"end_time": _moment(status.ended)}
        if status.started is not None:
            times["start_time"] = _moment(status.started)
        if status.timed_out:
            limit = training_job(job).max_running_seconds
            text = f"The job was cancelled because it ran longer than its maxRunningTime of {limit:g} s."
            return {"state": JobState.CANCELLED, "error_message": text, **times}
        if status.state == RunState.EXITED and status.exit_code == 0 and not status.problem:
            return {"state": JobState.SUCCEEDED, **times}
        start = max(0, self._backend.log_size(job.job_id) - LOG_TAIL_BYTES)
        text = failure_text(status, self._backend.log(job.job_id, start, LOG_TAIL_BYTES))
        return {"state": JobState.FAILED, "error_message": text, **times}

    async def _predict(self, job: Job) -> Ending:
        value = PredictionInput.read(job.input, where="prediction_input")
        if self._state(job) == JobState.CANCELLING:
            return {}
        self.change(job.job_id, state=JobState.RUNNING, start_time=job.start_time or now())
        running = asyncio.create_task(self._predictor.run(job.job_id, value))
        try:
            while not running.done():
                if self._state(job) == JobState.CANCELLING:
                    return {}
                await asyncio.wait([running], timeout=POLL_SECONDS)
            return {"state": JobState.SUCCEEDED, "output": running.result()}
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _waited(job: Job) -> str:
    limit = TrainingInput.read(job.input, where="training_input").scheduling.max_wait_time
    return f"The job was cancelled because it did not start within its maxWaitTime of {limit}."


def _moment(seconds: float | None) -> str:
    return now() if seconds is None else timestamp(seconds)


def training_job(job: Job) -> TrainingJob:
    """Return what a backend needs to know of a job."""
    value = TrainingInput.read(job.input, where="training_input")
    return TrainingJob(
        job_id=job.job_id,
        package_uris=tuple(value.package_uris),
        python_module=value.python_module,
        args=tuple(value.args),
        job_dir=value.job_dir,
        max_running_seconds=seconds_of(value.scheduling.max_running_time),
        training_input=job.input,
    )
