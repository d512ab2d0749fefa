"""The queue of jobs: a number of slots for each kind; by priority, then first come, first served."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from functools import partial

from sqlalchemy import Select, func, select

from pipeline.engine.backends import Backend, RunState, RunStatus
from pipeline.engine.jobs.batch import BatchPredictor
from pipeline.engine.jobs.status_board import StatusBoard
from pipeline.engine.jobs.study import Study
from pipeline.engine.jobs.training import CANCELLED, JobChange, cancelled_waiting, ending_of, training_job
from pipeline.engine.jobs.trials import tuning_spec
from pipeline.engine.store import JobRow, Store, now, timestamp
from pipeline.engine.supervision import supervise
from pipeline.engine.v1.errors import as_api_error, error_text
from pipeline.engine.v1.resources import PredictionInput
from pipeline.engine.v1.shortages import engine_failed
from pipeline.errors import PipelineError
from pipeline.ml_v1 import JobState

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2  # between two looks at whether a batch prediction was cancelled
LOST_HOME = (
    "The engine that ran the job has ended, and another one leads, which does not reach the job's processes: "
    "they are on another machine, or in another GRAFT_HOME. Submit it again."
)


class Kind(StrEnum):
    """The two kinds of job; the value is the name of their input on the wire."""

    TRAINING = "trainingInput"
    PREDICTION = "predictionInput"


LIVE = (JobState.PREPARING, JobState.RUNNING, JobState.CANCELLING)


def queued(kind: str) -> Select[JobRow]:
    """Return the query of a queue, the job that runs next first."""
    query = select(JobRow).filter_by(kind=kind, state=JobState.QUEUED)
    return query.order_by(JobRow.priority.desc(), JobRow.seq)


class JobRunner:
    """Runs the queued jobs; training jobs outlive it and are re-attached at the next start.

    Args:
        store: The database.
        backend: Runs training jobs.
        predictor: Runs batch prediction jobs.
        slots: How many jobs of each kind run at a time.
        home: Tells the engines whose machine runs the processes of jobs; empty if there is one engine only.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        predictor: BatchPredictor,
        slots: Mapping[Kind, int],
        *,
        home: str = "",
    ) -> None:
        self._store = store
        self._backend = backend
        self._board = StatusBoard(backend)
        self._predictor = predictor
        self._slots = slots
        self._home = home
        self._added = {kind: asyncio.Event() for kind in Kind}
        self._queues: list[asyncio.Task[None]] = []
        self._running: dict[Kind, set[asyncio.Task[None]]] = {kind: set() for kind in Kind}
        self._studies: dict[str, Study] = {}

    def wake(self, kind: Kind) -> None:
        """Check a queue now: a job was added."""
        self._added[kind].set()

    def change(self, job_id: str, change: JobChange) -> None:
        """Record the new state of a job."""
        with self._store.begin() as session:
            job = session.scalars(select(JobRow).filter_by(job_id=job_id)).one()
            job.state = change.state
            job.error_message = change.error_message or job.error_message
            job.start_time = change.start_time or job.start_time
            job.end_time = change.end_time or job.end_time
            job.output = change.output.to_json() if change.output else job.output
            job.home = change.home or job.home
        log.info("Job %s is %s.", job_id, change.state)

    async def _record(self, job_id: str, change: JobChange) -> None:
        await self._store.retry(partial(self.change, job_id, change))

    def start(self) -> None:
        """Start to run the queues; jobs that ran when the engine died come first, whatever the slots."""
        self._predictor.clean()
        for kind in Kind:
            with self._store.begin() as session:
                live = session.scalars(
                    select(JobRow).filter_by(kind=kind).where(JobRow.state.in_(LIVE))
                ).all()
            for job in live:
                self._spawn(kind, job)
        self._queues = [asyncio.create_task(supervise("queue", partial(self._work, kind))) for kind in Kind]

    async def stop(self) -> None:
        """Stop watching; training jobs run on without the engine."""
        tasks = [*self._queues, *(task for running in self._running.values() for task in running)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, kind: Kind) -> None:
        while True:
            self._added[kind].clear()
            seconds = await self._store.retry(partial(self._start_jobs, kind))
            try:
                await asyncio.wait_for(self._added[kind].wait(), seconds)
            except TimeoutError:
                continue

    def _start_jobs(self, kind: Kind) -> float | None:
        """Start the jobs that there are slots for; return how soon the next one waits too long."""
        self._expire(kind)
        while self._has_slot(kind) and (job := self._next(kind)):
            self.change(job.job_id, JobChange(state=JobState.PREPARING, home=self._home or None))
            job.state = JobState.PREPARING
            self._spawn(kind, job)
        return self._seconds_to_expiry(kind)

    def _has_slot(self, kind: Kind) -> bool:
        num_used = len(self._running[kind])
        if kind == Kind.TRAINING:  # each job has a slot; trials that run at the same time need one each
            num_used += sum(max(0, len(study.live) - 1) for study in self._studies.values())
        return num_used < self._slots[kind]

    def _may_start_trial(self) -> bool:
        """Return True if there is a slot for one trial more, and no job waits for it."""
        return self._has_slot(Kind.TRAINING) and self._next(Kind.TRAINING) is None

    def _next(self, kind: Kind) -> JobRow | None:
        with self._store.begin() as session:
            return session.scalars(queued(kind).limit(1)).first()

    def _spawn(self, kind: Kind, job: JobRow) -> None:
        task = asyncio.create_task(supervise("job", partial(self._run, kind, job)))
        self._running[kind].add(task)
        task.add_done_callback(self._running[kind].discard)
        task.add_done_callback(lambda _: self.wake(kind))

    def _seconds_to_expiry(self, kind: Kind) -> float | None:
        query = select(func.min(JobRow.start_before)).filter_by(kind=kind, state=JobState.QUEUED)
        with self._store.begin() as session:
            moment = session.scalar(query)
        return None if moment is None else max(0.05, moment - time.time())

    def _expire(self, kind: Kind) -> None:
        with self._store.begin() as session:
            late = session.scalars(queued(kind).where(JobRow.start_before <= time.time())).all()
        for job in late:
            self.change(job.job_id, replace(cancelled_waiting(job), end_time=now()))

    async def _run(self, kind: Kind, job: JobRow) -> None:
        work = self._train if kind == Kind.TRAINING else self._predict
        try:
            ending = await work(job)
        except PipelineError as error:
            ending = JobChange(state=JobState.FAILED, error_message=error_text(as_api_error(error)))
        except Exception as error:  # the edge of the task
            log.exception("Job %s could not be run.", job.job_id)
            ending = JobChange(state=JobState.FAILED, error_message=engine_failed(error))
        if study := self._studies.pop(job.job_id, None):
            await study.stop()
        elif kind == Kind.TRAINING:
            await self._backend.stop(job.job_id)  # ends what the program left running, too
        await self._store.retry(partial(self._end, job, replace(ending, end_time=ending.end_time or now())))

    def _end(self, job: JobRow, ending: JobChange) -> None:
        if self._read_state(job) == JobState.CANCELLING:  # by a client, even if it ended meanwhile
            ending = replace(CANCELLED, end_time=ending.end_time)
        self.change(job.job_id, ending)

    def _read_state(self, job: JobRow) -> JobState:
        with self._store.begin() as session:
            return JobState(session.scalars(select(JobRow.state).filter_by(job_id=job.job_id)).one())

    async def _state(self, job: JobRow) -> JobState:
        return await self._store.retry(partial(self._read_state, job))

    async def _is_elsewhere(self, job: JobRow) -> bool:
        """Return True if the processes of a job are another machine's, or were."""
        if job.home in (None, "", self._home) or not self._backend.is_local:
            return False
        return (await self._status(job)).state == RunState.ABSENT

    async def _status(self, job: JobRow) -> RunStatus:
        return (await self._board.read([job.job_id]))[job.job_id]

    async def _train(self, job: JobRow) -> JobChange:
        if await self._is_elsewhere(job):
            return JobChange(state=JobState.FAILED, error_message=LOST_HOME)
        if spec := tuning_spec(job):
            study = self._studies[job.job_id] = Study(
                self._store,
                self._backend,
                self._board,
                job,
                spec,
                may_start=self._may_start_trial,
                on_trial_end=partial(self.wake, Kind.TRAINING),
            )
            return await study.run()
        if await self._state(job) == JobState.PREPARING:
            await self._backend.start(training_job(job))
        return await self._watch(job)

    async def _watch(self, job: JobRow) -> JobChange:
        while not (status := await self._status(job)).is_over and status.state != RunState.ABSENT:
            state = await self._state(job)
            if state == JobState.CANCELLING:
                return CANCELLED
            if state == JobState.PREPARING and status.state == RunState.RUNNING:
                start_time = _moment(status.started)
                await self._record(job.job_id, JobChange(state=JobState.RUNNING, start_time=start_time))
            elif state == JobState.PREPARING and job.start_before and job.start_before < time.time():
                return cancelled_waiting(job)
        return await ending_of(training_job(job), status, self._backend)

    async def _predict(self, job: JobRow) -> JobChange:
        value = PredictionInput.read(job.input, where="prediction_input")
        if await self._state(job) == JobState.CANCELLING:
            return CANCELLED
        await self._record(job.job_id, JobChange(state=JobState.RUNNING, start_time=job.start_time or now()))
        running = asyncio.create_task(self._predictor.run(job.job_id, value))
        try:
            while not running.done():
                if await self._state(job) == JobState.CANCELLING:
                    return CANCELLED
                await asyncio.wait([running], timeout=POLL_SECONDS)
            return JobChange(state=JobState.SUCCEEDED, output=running.result())
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _moment(seconds: float | None) -> str:
    return now() if seconds is None else timestamp(seconds)
