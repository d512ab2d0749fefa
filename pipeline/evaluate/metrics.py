"""What is said of a model on the test pictures: the numbers, their intervals, and who is taken for whom."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from pipeline.errors import EvaluationError
from pipeline.types import JsonDict

EPSILON = 1e-7  # Keras's own clipping of categorical cross-entropy, so that losses can be compared
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How a model did on the test pictures. docs/evaluation.md defines every number.

    Args:
        accuracy: Share of pictures whose most probable class is their label.
        accuracy_ci95: Wilson's interval of it.
        loss: Mean negative log-likelihood of the labels.
        test_pictures: How many pictures were tested.
        confusion: For each label, how many of its pictures were taken for each class.
        scores: The other metrics by name; None where one is undefined on these pictures.
        intervals: 95 % intervals, by metric; a group bootstrap's.
        per_class: For each label its support, precision, recall, F1, areas and their intervals.
        reliability: Bins of confidence: how sure the model was and how often it was right.
        coverage: Thresholds of confidence: how many pictures it answers and how often it is right then.
    """

    accuracy: float
    accuracy_ci95: tuple[float, float]
    loss: float
    test_pictures: int
    confusion: dict[str, dict[str, int]]
    scores: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, list[float] | None] = field(default_factory=dict)
    per_class: dict[str, JsonDict] = field(default_factory=dict)
    reliability: list[JsonDict] = field(default_factory=list)
    coverage: list[JsonDict] = field(default_factory=list)

    def value_of(self, name: str) -> float | None:
        """Return a metric by its name; None where it is undefined or was not measured."""
        headline = {"accuracy": self.accuracy, "loss": self.loss}
        return headline[name] if name in headline else self.scores.get(name)

    def interval_of(self, name: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric, None where there is none."""
        if name == "accuracy":
            return self.accuracy_ci95
        found = self.intervals.get(name)
        return None if found is None else (found[0], found[1])

    def headline(self) -> Metrics:
        """Return the numbers alone, without what is long: what travels between the steps of a run."""
        return Metrics(
            accuracy=self.accuracy,
            accuracy_ci95=self.accuracy_ci95,
            loss=self.loss,
            test_pictures=self.test_pictures,
            confusion=self.confusion,
            scores=self.scores,
            intervals=self.intervals,
        )

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}

    @classmethod
    def from_dict(cls, value: JsonDict) -> Metrics:
        """Read what `to_dict` wrote, now or before there were scores."""
        low, high = value["accuracy_ci95"]
        return cls(**{**value, "accuracy_ci95": (low, high)})


def wilson_interval(hits: float, total: float, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share; 95 % unless told otherwise.

    Raises:
        EvaluationError: if there was no trial.
    """
    if total <= 0:
        raise EvaluationError("An interval needs at least one test picture.")
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
