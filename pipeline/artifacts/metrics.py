"""How a model did on the test pictures; docs/evaluation.md defines every number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pipeline.artifacts.record import Record

Interval: TypeAlias = tuple[float, float]
Number: TypeAlias = int | float  # a count stays an integer in JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMetrics(Record):
    """How a model did on one class; None where a number is undefined on these pictures.

    Args:
        support: Test pictures of the class.
        predicted: Test pictures that were taken for it.
        precision: Share of `predicted` that are of the class.
        recall: Share of `support` that were taken for it.
        f1: Harmonic mean of the two.
        roc_auc: Area under the ROC curve, the class against the others.
        pr_auc: Average precision.
    """

    support: int
    predicted: int
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None
    f1: float | None
    f1_ci95: Interval | None
    roc_auc: float | None
    pr_auc: float | None

    def value_of(self, name: str) -> float | None:
        """Return a metric by its name."""
        value: float | None = getattr(self, name)
        return value

    def interval_of(self, name: str) -> Interval | None:
        """Return the 95 % interval of a metric, None where there is none."""
        interval: Interval | None = getattr(self, f"{name}_ci95", None)
        return interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin(Record):
    """Pictures of one range of confidence: how sure the model was of them, and how often it was right."""

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveragePoint(Record):
    """What is answered, and how well, when answers below a threshold of confidence are withheld."""

    threshold: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Record):
    """How a model did on the test pictures.

    Args:
        accuracy: Share of pictures whose most probable class is their label.
        accuracy_ci95: Wilson's interval of it.
        loss: Mean negative log-likelihood of the labels.
        test_pictures: How many pictures were tested.
        confusion: For each label, how many of its pictures were taken for each class.
        scores: The other metrics by name; None where one is undefined on these pictures.
        intervals: 95 % intervals, by metric; a group bootstrap's.
        per_class: The metrics of each label.
        reliability: How sure the model was and how often it was right, by confidence.
        coverage: How many pictures it answers and how often it is right then, by threshold of confidence.
    """

    accuracy: float
    accuracy_ci95: Interval
    loss: float
    test_pictures: int
    confusion: dict[str, dict[str, int]]
    scores: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, Interval | None] = field(default_factory=dict)
    per_class: dict[str, ClassMetrics] = field(default_factory=dict)
    reliability: tuple[ReliabilityBin, ...] = ()
    coverage: tuple[CoveragePoint, ...] = ()

    def value_of(self, name: str) -> float | None:
        """Return a metric by its name; None where it is undefined or was not measured."""
        headline = {"accuracy": self.accuracy, "loss": self.loss}
        return headline[name] if name in headline else self.scores.get(name)

    def interval_of(self, name: str) -> Interval | None:
        """Return the 95 % interval of a metric, None where there is none."""
        return self.accuracy_ci95 if name == "accuracy" else self.intervals.get(name)

    def headline(self) -> Metrics:
        """Return the numbers alone, without what is long: what travels between the steps of a run."""
        return replace(self, per_class={}, reliability=(), coverage=())
