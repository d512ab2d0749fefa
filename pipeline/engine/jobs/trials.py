"""The trials of hyperparameter tuning jobs: their rows, their metrics, and how responses show them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipeline.engine.jobs.search import Observation
from pipeline.engine.store import JobRow, Store, TrialRow
from pipeline.engine.v1.distributed import DistributedTrainingInput
from pipeline.engine.v1.hyperparameters import HyperparameterSpec
from pipeline.engine.v1.responses import HyperparameterMetric, HyperparameterOutput, TrainingOutput
from pipeline.ml_v1 import JobState

MAX_METRICS = 200  # that a trial keeps, the last ones: every response reads them
MIN_COMPLETED = 3  # trials that the median rule needs
Metrics = tuple[tuple[int, float], ...]  # steps and values, in the order they were reported


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One trial.

    Args:
        trial_id: Its number.
        values: Its hyperparameters.
        state: Its state.
        start_time: When its program started.
        end_time: When it ended.
        metrics: What it has reported so far.
        is_stopped_early: Whether it was, or is being, stopped because others did better.
        error_message: Why it failed.
    """

    trial_id: int
    values: Mapping[str, str]
    state: JobState
    start_time: str | None = None
    end_time: str | None = None
    metrics: Metrics = ()
    is_stopped_early: bool = False
    error_message: str | None = None

    @property
    def objective(self) -> float | None:
        """Its final metric; None if it reported none."""
        return self.metrics[-1][1] if self.metrics else None

    @property
    def observation(self) -> Observation:
        """What the next suggestion learns from it."""
        is_good = self.state == JobState.SUCCEEDED
        return Observation(values=self.values, objective=self.objective if is_good else None)


def read_trials(session: Session, job_id: str) -> list[TrialRecord]:
    """Return the trials of a job in the order they were started."""
    rows = session.scalars(select(TrialRow).filter_by(job_id=job_id).order_by(TrialRow.trial_id))
    return [
        TrialRecord(
            trial_id=row.trial_id,
            values=row.hyperparameters,
            state=JobState(row.state),
            start_time=row.start_time,
            end_time=row.end_time,
            metrics=tuple((int(step), value) for step, value in row.metrics),
            is_stopped_early=row.is_stopped_early,
            error_message=row.error_message,
        )
        for row in rows
    ]


def write_trial(store: Store, job_id: str, trial: TrialRecord) -> None:
    """Add a trial, or replace what the database has of it."""
    with store.begin() as session:
        query = select(TrialRow).filter_by(job_id=job_id, trial_id=trial.trial_id)
        row = session.scalars(query).one_or_none()
        if row is None:
            row = TrialRow(job_id=job_id, trial_id=trial.trial_id, hyperparameters=dict(trial.values))
            session.add(row)
        row.state = trial.state
        row.start_time = trial.start_time
        row.end_time = trial.end_time
        row.metrics = [[step, value] for step, value in trial.metrics]
        row.is_stopped_early = trial.is_stopped_early
        row.error_message = trial.error_message


def parse_metrics(data: bytes, tag: str) -> Metrics:
    """Return what the lines of a metric file report; a line that cannot be read counts as not yet written."""
    metrics = []
    for line in data.splitlines():
        try:
            entry = json.loads(line)
            step, value = int(entry.get("global_step", 0)), float(entry[tag])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
        if math.isfinite(value) and 0 <= step < 2**53:
            metrics.append((step, value))
    return tuple(metrics)


def add_metrics(metrics: Metrics, more: Metrics) -> Metrics:
    """Return metrics with those read now: the last value of each step, and the last steps."""
    merged = {step: value for step, value in metrics if step not in {step for step, _ in more}}
    for step, value in more:
        merged.pop(step, None)
        merged[step] = value
    return tuple(merged.items())[-MAX_METRICS:]


def is_hopeless(trial: TrialRecord, others: Iterable[TrialRecord], *, minimize: bool) -> bool:
    """Return True if a trial's best value is worse than the median of the others' averages up to its step.

    Args:
        trial: One that runs.
        others: The trials of the study; only those that succeeded count.
        minimize: Whether a smaller value is better.
    """
    step = max((step for step, _ in trial.metrics), default=0)
    averages = [
        statistics.fmean(values)
        for other in others
        if other.state == JobState.SUCCEEDED
        and not other.is_stopped_early
        and (values := [value for at, value in other.metrics if at <= step])
    ]
    if step == 0 or len(averages) < MIN_COMPLETED:
        return False
    values, median = [value for _, value in trial.metrics], statistics.median(averages)
    return min(values) > median if minimize else max(values) < median


def tuning_spec(job: JobRow) -> HyperparameterSpec | None:
    """Return what a training job tunes; None if it tunes nothing."""
    if job.input.get("hyperparameters") is None:
        return None
    return DistributedTrainingInput.read(job.input, where="training_input").hyperparameters


def training_output(job: JobRow, trials: Sequence[TrialRecord]) -> TrainingOutput | None:
    """Return `trainingOutput`: of a tuning job from its beginning, of another once it has succeeded."""
    spec = tuning_spec(job)
    if spec is None:
        return TrainingOutput() if job.state == JobState.SUCCEEDED else None
    num_completed = sum(trial.state == JobState.SUCCEEDED for trial in trials)
    if JobState(job.state).is_terminal:
        trials = best_first(trials, minimize=spec.is_minimized)
    return TrainingOutput(
        completed_trial_count=str(num_completed),
        trials=[_output(trial) for trial in trials] or None,
        is_hyperparameter_tuning_job=True,
        hyperparameter_metric_tag=spec.tag,
    )


def best_first(trials: Sequence[TrialRecord], *, minimize: bool) -> list[TrialRecord]:
    """Return the trials with the best objective first; those that did not succeed last."""

    def key(trial: TrialRecord) -> tuple[bool, float, int]:
        objective = trial.observation.objective
        if objective is None:
            return True, 0.0, trial.trial_id
        return False, objective if minimize else -objective, trial.trial_id

    return sorted(trials, key=key)


def _output(trial: TrialRecord) -> HyperparameterOutput:
    final = None
    if trial.metrics:
        step, value = trial.metrics[-1]
        final = HyperparameterMetric(training_step=str(step), objective_value=value)
    return HyperparameterOutput(
        trial_id=str(trial.trial_id),
        hyperparameters=dict(trial.values),
        final_metric=final,
        is_trial_stopped_early=trial.is_stopped_early or None,
        state=trial.state,
        start_time=trial.start_time,
        end_time=trial.end_time,
    )
