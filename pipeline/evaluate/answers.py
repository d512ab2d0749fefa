"""A model's answers as arrays, with classes joined by their name and never by their position."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.predictions import Prediction
from pipeline.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A model's answers for the test pictures.

    Args:
        keys: Ids of the pictures.
        classes: Every label that is true of a picture or known to the model.
        truth: (pictures,) position of each picture's label in `classes`.
        probabilities: (pictures, classes) of each class; 0 for one that the model does not know.
        predicted: (pictures,) position of the most probable class.
        groups: (pictures,) number of each picture's group, from 0 without gaps.
    """

    keys: tuple[str, ...]
    classes: tuple[str, ...]
    truth: IntArray
    probabilities: FloatArray
    predicted: IntArray
    groups: IntArray

    @property
    def correct(self) -> BoolArray:
        """(pictures,) whether the most probable class is the label."""
        correct: BoolArray = self.predicted == self.truth
        return correct

    @property
    def confidence(self) -> FloatArray:
        """(pictures,) probability of the most probable class."""
        confidence: FloatArray = self.probabilities.max(axis=1)
        return confidence

    def select(self, mask: BoolArray) -> Answers:
        """Return the answers for some of the pictures."""
        chosen = np.flatnonzero(mask)
        return Answers(
            keys=tuple(self.keys[index] for index in chosen),
            classes=self.classes,
            truth=self.truth[chosen],
            probabilities=self.probabilities[chosen],
            predicted=self.predicted[chosen],
            groups=np.unique(self.groups[chosen], return_inverse=True)[1],
        )


def collect_answers(
    predictions: Mapping[str, Prediction],
    labels: Mapping[str, str],
    *,
    model_classes: Sequence[str],
    classes: Sequence[str],
    groups: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Answers:
    """Return a model's answers for all labelled pictures.

    Args:
        predictions: The model's prediction of each picture; the keys of `labels`.
        labels: The truth, by picture.
        model_classes: The model's own labels: of output 0, of output 1, ...
        classes: The dataset's labels. Those that only the model knows come after them.
        groups: Group of each picture; each is its own unless given.
        names: What the dataset calls the model's labels, where it calls them otherwise; several may have one
            name.

    Raises:
        LabelMapMismatch: if outputs or label names are not those of `model_classes`.
        EvaluationError: if there is no picture, or an output is not a finite number.
    """
    if not labels:
        raise EvaluationError("There is no test picture to evaluate on.")
    own = [names.get(label, label) for label in model_classes] if names else model_classes
    together = tuple(dict.fromkeys((*classes, *own)))
    position = {label: index for index, label in enumerate(together)}
    columns = [position[label] for label in own]
    keys = tuple(labels)
    outputs = np.array([_checked(predictions[key], model_classes) for key in keys], dtype=np.float64)
    probabilities = np.zeros((len(keys), len(together)))
    np.add.at(probabilities.T, columns, (outputs / outputs.sum(axis=1, keepdims=True)).T)
    grouped = [groups[key] if groups else key for key in keys]
    return Answers(
        keys=keys,
        classes=together,
        truth=np.array([position[labels[key]] for key in keys]),
        probabilities=probabilities,
        predicted=np.array(columns)[outputs.argmax(axis=1)],
        groups=np.unique(np.array(grouped), return_inverse=True)[1],
    )


def _checked(prediction: Prediction, classes: Sequence[str]) -> tuple[float, ...]:
    outputs = prediction.outputs
    if len(outputs) != len(classes):
        raise LabelMapMismatch(
            f"The model has {len(outputs)} outputs, its list of classes has {len(classes)} classes: "
            f"{list(classes)}"
        )
    if not all(math.isfinite(value) and value >= 0 for value in outputs) or not sum(outputs) > 0:
        raise EvaluationError(
            f"The outputs for picture {prediction.key} are not numbers that make probabilities: {outputs}"
        )
    best = classes[outputs.index(max(outputs))]
    if prediction.label and prediction.label != best:  # none: the model would rather not say
        raise LabelMapMismatch(
            f"For picture {prediction.key} the model says {prediction.label!r} where its classes "
            f"{list(classes)} make it {best!r}: the two label lists differ."
        )
    return outputs
