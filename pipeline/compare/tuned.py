"""What a study found: its trials with their standard errors, what mattered, and the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artifacts.estimate import Setting
from pipeline.artifacts.trial_scores import TrialScores
from pipeline.artifacts.tuning import StudyTrial, Tuning
from pipeline.compare.estimates import estimate_mean, optimism_of_folds
from pipeline.compare.importance import Tried, parameter_importance
from pipeline.compare.study import FLAGS, FinishedTrial, Study
from pipeline.config.tune import REAL, WHOLE, RangeConfig, TuneConfig
from pipeline.ml_engine.resources import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A trial with its parameters by dotted keys, and what it has left; None where it has not succeeded."""

    finished: FinishedTrial
    values: dict[str, Setting]
    scores: TrialScores | None

    @property
    def number(self) -> int:
        return int(self.finished.trial["trialId"])


def read_tuning(study: Study, job: Job) -> Tuning:
    """Return what a study found, the best trial first.

    Raises:
        ObjectNotFound: if a trial has left nothing.
    """
    rows = sorted(_read_trials(study, job), key=lambda row: _rank(study.tune.goal, row))
    scores = [row.scores for row in rows if row.scores]
    goal = study.tune.goal
    losses = np.array(
        [[-each.accuracy if goal == "accuracy" else each.log_loss for each in one.folds] for one in scores]
    )
    return Tuning(
        job=job["jobId"],
        dataset_version=study.dataset_version,
        study=study.tune.model_dump(mode="json"),
        pictures=scores[0].pictures,
        folds=len(scores[0].folds),
        trials=tuple(map(_describe, rows)),
        importance=_importance(study.tune, rows),
        optimism=optimism_of_folds(losses, best=0),
    )


def count_forwarded(study: Study, job: Job) -> int:
    """Return how many pictures the trials of a job ran through the frozen network."""
    own = (each for each in study.trials(job) if each.job_id == job["jobId"] and each.has_succeeded)
    return sum(TrialScores.read(each.directory).work.forwarded for each in own)


def _read_trials(study: Study, job: Job) -> list[_Judged]:
    return [
        _Judged(
            finished=each,
            values=read_values(study.tune, each),
            scores=TrialScores.read(each.directory) if each.has_succeeded else None,
        )
        for each in study.trials(job)
    ]


def read_values(tune: TuneConfig, finished: FinishedTrial) -> dict[str, Setting]:
    """Return what a trial tried, by the dotted keys of the YAML."""
    texts = finished.trial["hyperparameters"]
    kinds = {**dict.fromkeys(WHOLE, int), **dict.fromkeys(REAL, float)}
    return {f"model.{name}": kinds.get(name, str)(texts[FLAGS[name]]) for name in tune.parameters}


def _figure(goal: str, scores: TrialScores) -> float:
    return scores.accuracy if goal == "accuracy" else scores.loss


def _rank(goal: str, row: _Judged) -> tuple[bool, float, int]:
    figure = _figure(goal, row.scores) if row.scores else 0.0
    return row.scores is None, -figure if goal == "accuracy" else figure, row.number


def _describe(row: _Judged) -> StudyTrial:
    state, scores = row.finished.trial["state"], row.scores
    if scores is None:
        return StudyTrial(number=row.number, parameters=row.values, state=state)
    counts = [fold.pictures for fold in scores.folds]
    return StudyTrial(
        number=row.number,
        parameters=row.values,
        state=state,
        log_loss=estimate_mean([fold.log_loss for fold in scores.folds], counts),
        accuracy=estimate_mean([fold.accuracy for fold in scores.folds], counts),
        fit_cpu_seconds=scores.fit_cpu_seconds,
    )


def _importance(tune: TuneConfig, rows: Sequence[_Judged]) -> dict[str, float]:
    tried = [Tried(values=row.values, figure=_figure(tune.goal, row.scores)) for row in rows if row.scores]
    logarithmic = {
        f"model.{name}"
        for name, choice in tune.parameters.items()
        if isinstance(choice, RangeConfig) and choice.scale == "log"
    }
    return parameter_importance(tried, logarithmic=logarithmic, seed=tune.seed)
