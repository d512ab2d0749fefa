"""Runs one hyperparameter tuning job: its trials are runs of the same package with other arguments.

The database has the truth. A trial is recorded before it is started, and the backend starts a run once, so an
engine that was killed goes on where it was: it runs no trial twice and loses none that has ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import select

from pipeline.engine.backends import Backend, RunState, RunStatus, TrainingJob, run_id
from pipeline.engine.jobs.search import History, Observation, is_exhausted, suggest
from pipeline.engine.jobs.status_board import StatusBoard
from pipeline.engine.jobs.training import (
    CANCELLED,
    JobChange,
    cancelled_waiting,
    ending_of,
    ran_too_long,
    training_job,
)
from pipeline.engine.jobs.trials import (
    TrialRecord,
    add_metrics,
    is_hopeless,
    parse_metrics,
    read_trials,
    tuning_spec,
    write_trial,
)
from pipeline.engine.store import JobRow, Store, now, timestamp
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.ml_v1 import PACKAGES_REFUSED, JobState

log = logging.getLogger(__name__)

HOW_TO_REPORT = (
    "Report it with cloudml-hypertune, or write lines of JSON with the metric and global_step to the file "
    "that CLOUD_ML_HP_METRIC_FILE names."
)
NUM_HOPELESS = 3  # failures without a success that end a study that sets no limit of its own
LIVE = (JobState.PREPARING, JobState.RUNNING)


class Study:
    """One hyperparameter tuning job that runs.

    Args:
        store: The database.
        backend: Runs the trials.
        board: Reads their states.
        job: The job.
        spec: What it tunes.
        may_start: Returns True while there is a slot for one trial more than the first.
        on_trial_end: Called when a slot is free again.
    """

    def __init__(
        self,
        store: Store,
        backend: Backend,
        board: StatusBoard,
        job: JobRow,
        spec: HyperparameterSpec,
        *,
        may_start: Callable[[], bool],
        on_trial_end: Callable[[], None],
    ) -> None:
        self._store = store
        self._backend = backend
        self._board = board
        self._job = job
        self._spec = spec
        self._base = training_job(job)
        self._may_start = may_start
        self._on_trial_end = on_trial_end
        self._trials: dict[int, TrialRecord] = {}
        self._earlier: list[TrialRecord] = []  # of the jobs that this one resumes

    @property
    def live(self) -> list[TrialRecord]:
        """The trials that run or are being started."""
        return [trial for trial in self._trials.values() if trial.state in LIVE]

    async def run(self) -> JobChange:
        """Run trials until the study ends; return how it ended."""
        await self._store.retry(self._load)
        while True:
            statuses = await self._board.read([self._run_id(trial) for trial in self.live])
            await self._store.retry(self._refresh)
            if ending := self._outside_ending():
                return ending
            for trial in self.live:
                await self._advance(trial, statuses[self._run_id(trial)])
            if ending := self._ending():
                return ending
            await self._start_trials()

    async def stop(self) -> None:
        """End the trials that still run: the job has ended."""
        for trial in self.live:
            await self._backend.stop(self._run_id(trial))
            await self._save(replace(trial, state=JobState.CANCELLED, end_time=now()))

    def _load(self) -> None:
        with self._store.begin() as session:
            self._trials = {trial.trial_id: trial for trial in read_trials(session, self._job.job_id)}
            self._earlier, previous = [], self._spec.resume_previous_job_id
            while job := session.scalar(select(JobRow).filter_by(job_id=previous)):
                self._earlier = [*read_trials(session, previous), *self._earlier]
                spec = tuning_spec(job)
                previous = spec.resume_previous_job_id if spec else ""

    def _refresh(self) -> None:
        with self._store.begin() as session:
            self._job = session.scalars(select(JobRow).filter_by(job_id=self._job.job_id)).one()

    def _outside_ending(self) -> JobChange | None:
        """Return why the job ends whatever its trials do: a client, or a limit of time."""
        job = self._job
        if job.state == JobState.CANCELLING:
            return CANCELLED
        if job.state == JobState.PREPARING:
            return cancelled_waiting(job) if job.start_before and job.start_before < time.time() else None
        if self._remaining_seconds() <= 0:
            return JobChange(state=JobState.CANCELLED, error_message=ran_too_long(self._base))
        return None

    def _remaining_seconds(self) -> float:
        if self._job.start_time is None:
            return self._base.max_running_seconds
        started = datetime.fromisoformat(self._job.start_time).timestamp()
        return started + self._base.max_running_seconds - time.time()

    async def _advance(self, trial: TrialRecord, status: RunStatus) -> None:
        if status.state == RunState.ABSENT and trial.state == JobState.PREPARING:
            await self._backend.start(self._run_of(trial))  # the engine was killed before it could
        elif status.is_over or status.state == RunState.ABSENT:
            await self._end(trial, status)
        elif status.state == RunState.RUNNING:
            await self._watch(trial, status)

    async def _watch(self, trial: TrialRecord, status: RunStatus) -> None:
        changed = await self._with_metrics(trial)
        if trial.state == JobState.PREPARING:
            start_time = now() if status.started is None else timestamp(status.started)
            changed = replace(changed, state=JobState.RUNNING, start_time=start_time)
        if self._spec.enable_trial_early_stopping and not changed.is_stopped_early:
            minimize, others = self._spec.is_minimized, self._trials.values()
            changed = replace(changed, is_stopped_early=is_hopeless(changed, others, minimize=minimize))
        if changed != trial:
            await self._save(changed)
        await self._note_start(changed)
        if changed.is_stopped_early:  # recorded first: a killed engine must know why it ended
            await self._backend.stop(self._run_id(changed))

    async def _note_start(self, trial: TrialRecord) -> None:
        if trial.start_time and self._job.state == JobState.PREPARING:
            await self._store.retry(partial(self._begin, trial))
            await self._store.retry(self._refresh)

    def _begin(self, first: TrialRecord) -> None:
        """Record that the job runs, unless a client cancelled it meanwhile."""
        with self._store.begin() as session:
            job = session.scalars(select(JobRow).filter_by(job_id=self._job.job_id)).one()
            if job.state == JobState.PREPARING:
                job.state, job.start_time = JobState.RUNNING, first.start_time
                log.info("Job %s is %s.", job.job_id, job.state)

    async def _end(self, trial: TrialRecord, status: RunStatus) -> None:
        await self._backend.stop(self._run_id(trial))  # ends what the program left running, too
        trial = await self._with_metrics(trial)
        ending = await ending_of(self._run_of(trial), status, self._backend)
        if trial.is_stopped_early:
            ending = replace(ending, state=JobState.SUCCEEDED, error_message=None)
        elif ending.state == JobState.SUCCEEDED and not trial.metrics:
            text = f"The trial ended without a value of the metric {self._spec.tag!r}. {HOW_TO_REPORT}"
            ending = replace(ending, state=JobState.FAILED, error_message=text)
        trial = replace(
            trial,
            state=ending.state,
            start_time=trial.start_time or ending.start_time,
            end_time=ending.end_time or now(),
            error_message=ending.error_message,
        )
        await self._save(trial)
        await self._note_start(trial)
        self._on_trial_end()

    def _ending(self) -> JobChange | None:
        trials = self._trials.values()
        failed = [trial for trial in trials if trial.state == JobState.FAILED]
        num_succeeded = sum(trial.state == JobState.SUCCEEDED for trial in trials)
        if failed and self._is_lost(failed, num_succeeded):
            return self._failure(failed)
        if self.live or self._wants_more():
            return None
        return self._failure(failed) if failed and not num_succeeded else JobChange(state=JobState.SUCCEEDED)

    def _is_lost(self, failed: list[TrialRecord], num_succeeded: int) -> bool:
        if limit := self._spec.max_failed_trials:
            return len(failed) >= limit
        if num_succeeded:
            return False
        is_for_all = (failed[-1].error_message or "").startswith(PACKAGES_REFUSED)
        return is_for_all or len(failed) >= NUM_HOPELESS

    def _failure(self, failed: list[TrialRecord]) -> JobChange:
        last = failed[-1]
        counted = "1 trial" if len(failed) == 1 else f"{len(failed)} trials"
        text = (
            f"{counted} of the hyperparameter tuning job failed. Trial {last.trial_id}: {last.error_message}"
        )
        if (last.error_message or "").startswith(PACKAGES_REFUSED):  # clients look at the beginning
            text = str(last.error_message)
        return JobChange(state=JobState.FAILED, error_message=text)

    def _wants_more(self) -> bool:
        if len(self._trials) >= self._spec.num_trials:
            return False
        return not is_exhausted(self._spec, self._history().tried)

    def _history(self) -> History:
        mine = [trial.observation for trial in self._trials.values() if trial.state not in LIVE]
        before: list[Observation] = [  # a cancelled trial was not tried
            trial.observation for trial in self._earlier if trial.state != JobState.CANCELLED
        ]
        return History(ended=[*before, *mine], running=[trial.values for trial in self.live])

    async def _start_trials(self) -> None:
        while len(self.live) < self._spec.num_parallel and self._wants_more():
            if self.live and not self._may_start():
                return
            number = self._next_number()
            seed = f"{self._job.job_id}/{number}"
            values = await asyncio.to_thread(suggest, self._spec, self._history(), seed)
            if values is None:
                return
            trial = TrialRecord(trial_id=number, values=values, state=JobState.PREPARING)
            await self._save(trial)
            await self._backend.start(self._run_of(trial))

    def _next_number(self) -> int:
        """Return the number of the next trial, also after a resumed job: it names a sub-directory."""
        return 1 + max((trial.trial_id for trial in (*self._earlier, *self._trials.values())), default=0)

    def _run_of(self, trial: TrialRecord) -> TrainingJob:
        base, number = self._base, str(trial.trial_id)
        return replace(
            base,
            args=(*base.args, *(f"--{name}={value}" for name, value in trial.values.items())),
            job_dir=f"{base.job_dir.rstrip('/')}/{number}" if base.job_dir else None,
            max_running_seconds=max(1.0, self._remaining_seconds()),
            trial_id=number,
            metric_tag=self._spec.tag,
        )

    def _run_id(self, trial: TrialRecord) -> str:
        return run_id(self._job.job_id, str(trial.trial_id))

    async def _with_metrics(self, trial: TrialRecord) -> TrialRecord:
        more = parse_metrics(await self._backend.metrics(self._run_id(trial)), self._spec.tag)
        return replace(trial, metrics=add_metrics(trial.metrics, more))

    async def _save(self, trial: TrialRecord) -> None:
        await self._store.retry(partial(write_trial, self._store, self._job.job_id, trial))
        self._trials[trial.trial_id] = trial
