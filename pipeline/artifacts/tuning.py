"""A study: the trials of a tuned classifier, judged by cross-validation on training pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from pipeline.artifacts.estimate import Estimate, Setting
from pipeline.artifacts.model_record import TuningReference
from pipeline.artifacts.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyTrial(Record):
    """One trial; without figures where it has not succeeded.

    Args:
        number: In the order that they were begun in, from 1.
        parameters: What was tried, by dotted keys.
        state: How its job ended: `SUCCEEDED`, `FAILED`, `CANCELLED`.
        log_loss: Mean negative log-likelihood of the labels of pictures that were left out.
        accuracy: Share of those pictures whose most probable class is their label.
        fit_cpu_seconds: CPU time of one training of the head.
    """

    number: int
    parameters: dict[str, Setting]
    state: str
    log_loss: Estimate | None = None
    accuracy: Estimate | None = None
    fit_cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning(Record):
    """What a study found: `tuning.json`.

    Args:
        job: The hyperparameter tuning job; of a study that was resumed, the last one.
        dataset_version: Whose training pictures judged.
        study: The section `model.tune`.
        pictures: Training pictures that were left out once.
        folds: Parts that they were left out in.
        trials: The best one first; those without figures last.
        importance: Which share of the differences between trials each parameter explains; empty for too few
            trials.
        optimism: By how much the best figure is too good, being the best of several.
    """

    FORMAT: ClassVar[int | None] = 1

    job: str
    dataset_version: str
    study: dict[str, JsonValue]
    pictures: int
    folds: int
    trials: tuple[StudyTrial, ...]
    importance: dict[str, float]
    optimism: float

    @property
    def best(self) -> StudyTrial:
        """The trial whose parameters train."""
        return self.trials[0]

    @property
    def judged(self) -> tuple[StudyTrial, ...]:
        """The trials that have figures."""
        return tuple(trial for trial in self.trials if trial.log_loss)

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """The parameters with the shares that they explain, the largest first."""
        return sorted(self.importance.items(), key=lambda item: -item[1])

    @property
    def caution(self) -> str:
        """What the figures are not."""
        return (
            f"Cross-validated on {self.pictures} training pictures, which chose among "
            f"{len(self.judged)} trials, so that the best figure is too good by about {self.optimism:.4f}. "
            "The test pictures judged no trial."
        )

    def reference(self, uri: str) -> TuningReference:
        """Return what a version's lineage says of it.

        Args:
            uri: Where this record is.
        """
        figure = self.best.accuracy if self.goal == "accuracy" else self.best.log_loss
        return TuningReference(
            job=self.job,
            uri=uri,
            goal=self.goal,
            seed=self.seed,
            trials=len(self.judged),
            value=figure.value if figure else 0.0,
            parameters=self.best.parameters,
        )

    @property
    def goal(self) -> str:
        """What decided: `loss` or `accuracy`."""
        return str(self.study.get("goal", "loss"))

    @property
    def seed(self) -> int:
        """The seed of the study."""
        seed = self.study.get("seed", 0)
        return seed if isinstance(seed, int) else 0
