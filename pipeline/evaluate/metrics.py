"""Accuracy with its interval, mean negative log-likelihood, and who is taken for whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.predictions import Prediction
from pipeline.types import JsonDict

EPSILON = 1e-7  # Keras's own clipping of categorical cross-entropy, so that losses can be compared
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How a model did on the test pictures.

    Args:
        accuracy: Share of pictures whose most probable class is their label.
        accuracy_ci95: Wilson's interval of it.
        loss: Mean negative log-likelihood of the labels.
        test_pictures: How many pictures were tested.
        confusion: For each label, how many of its pictures were taken for each class.
    """

    accuracy: float
    accuracy_ci95: tuple[float, float]
    loss: float
    test_pictures: int
    confusion: dict[str, dict[str, int]]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {**asdict(self), "accuracy_ci95": list(self.accuracy_ci95)}

    @classmethod
    def from_dict(cls, value: JsonDict) -> Metrics:
        """Read what `to_dict` wrote."""
        low, high = value["accuracy_ci95"]
        return cls(**{**value, "accuracy_ci95": (low, high)})


def wilson_interval(hits: int, total: int, z: float = Z_95) -> tuple[float, float]:
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


def negative_log_likelihood(outputs: Sequence[float], index: int) -> float:
    """Return minus the logarithm of a class's probability, normalised and clipped as Keras does."""
    probability = outputs[index] / math.fsum(outputs)
    return -math.log(min(max(probability, EPSILON), 1 - EPSILON))


def compute_metrics(
    predictions: Mapping[str, Prediction], labels: Mapping[str, str], classes: Sequence[str]
) -> Metrics:
    """Compare predictions with labels; both have the same keys.

    Args:
        predictions: What the model said, by picture.
        labels: The truth, by picture.
        classes: Label of output 0, of output 1, ...

    Raises:
        LabelMapMismatch: if the model's outputs or label names are not those of `classes`.
        EvaluationError: if an output is not a finite number.
    """
    position = {label: index for index, label in enumerate(classes)}
    confusion = {label: dict.fromkeys(classes, 0) for label in classes}
    losses = []
    for key, label in labels.items():
        prediction = predictions[key]
        _check(prediction, classes)
        confusion[label][prediction.label] += 1
        losses.append(negative_log_likelihood(prediction.outputs, position[label]))
    hits = sum(confusion[label][label] for label in classes)
    return Metrics(
        accuracy=hits / len(labels),
        accuracy_ci95=wilson_interval(hits, len(labels)),
        loss=math.fsum(losses) / len(losses),
        test_pictures=len(labels),
        confusion=confusion,
    )


def _check(prediction: Prediction, classes: Sequence[str]) -> None:
    outputs = prediction.outputs
    if len(outputs) != len(classes):
        raise LabelMapMismatch(
            f"The model has {len(outputs)} outputs, the dataset {len(classes)} classes: {list(classes)}"
        )
    if not all(math.isfinite(value) for value in outputs):
        raise EvaluationError(f"The outputs for picture {prediction.key} are not numbers: {outputs}")
    best = classes[max(range(len(outputs)), key=outputs.__getitem__)]
    if prediction.label != best:
        raise LabelMapMismatch(
            f"For picture {prediction.key} the model says {prediction.label!r} where the dataset's classes "
            f"{list(classes)} make it {best!r}: the two label lists differ."
        )
