"""Cross-validation on training pictures: how much the accuracy differs when the head is trained again.

The interval of a test speaks of one trained model. Here the head is trained five times on four fifths of the
pictures and judged on the rest, in whole groups. These heads have at most 128 hidden units, which costs less
than one more training of the default head. No test picture is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.fold_answers import FoldAnswers
from pipeline.artifacts.training import CrossValidation, HeadParameters
from pipeline.trainer.calibration import MIN_PICTURES, TrainingSet, assign_folds
from pipeline.trainer.head import train_head
from pipeline.types import Float32Outputs, Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
MAX_UNITS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOutputs:
    """What heads that were each trained without a fold of the pictures answer for it.

    Args:
        outputs: Class probabilities of each picture, without a temperature; zeros where no fold holds it.
        labels: Class index of each.
        folds: Which fold left each out; -1 for none.
        groups: Number of the group of each.
        units: Width of the hidden layer of these heads; 0 for logistic regression.

    Shapes:
        outputs: (num_images, classes).  labels, folds, groups: (num_images,).
    """

    outputs: Float32Outputs
    labels: Int64Labels
    folds: NDArray[np.int64]
    groups: NDArray[np.int64]
    units: int

    @property
    def record(self) -> CrossValidation:
        """How the heads do."""
        rows = [self.folds == fold for fold in range(FOLDS)]
        accuracies = [float((self.outputs[each].argmax(1) == self.labels[each]).mean()) for each in rows]
        losses = [self._log_loss(each) for each in rows]
        return CrossValidation(
            folds=FOLDS,
            pictures=int((self.folds >= 0).sum()),
            accuracy=float(np.mean(accuracies)),
            spread=float(np.std(accuracies, ddof=1)),
            log_loss=float(np.mean(losses)),
            units=self.units,
        )

    def _log_loss(self, rows: NDArray[np.bool_]) -> float:
        own = self.outputs[rows][np.arange(int(rows.sum())), self.labels[rows]]
        return float(-np.log(np.maximum(own, 1e-7)).mean())

    def answers(self, temperature: float) -> FoldAnswers:
        """Return the most probable class of each picture that was left out, and its probability then."""
        rows = self.folds >= 0
        outputs = self.outputs[rows].astype(np.float64)
        powers = (outputs / outputs.max(1, keepdims=True)) ** (1 / temperature)
        return FoldAnswers(
            labels=self.labels[rows],
            predicted=outputs.argmax(1).astype(np.int64),
            scores=(1 / powers.sum(1)).astype(np.float32),  # the largest power is one
            groups=self.groups[rows],
        )


def cross_validate(
    pictures: TrainingSet, parameters: HeadParameters, *, num_classes: int, epochs: int
) -> FoldOutputs | None:
    """Train heads without a fold of the pictures each, and let them answer for it.

    Args:
        pictures: What trained the head.
        parameters: How it was trained.
        num_classes: Width of its output.
        epochs: The epoch whose head was kept.

    Returns:
        None where too few pictures can be left out.
    """
    folds = hold_out(pictures, seed=parameters.seed)
    if folds is None:
        return None
    smaller = replace(parameters, epochs=epochs, units=min(parameters.units, MAX_UNITS))
    outputs = np.zeros((len(folds), num_classes), np.float32)
    for fold in range(FOLDS):
        trains, judged = np.tile(folds != fold, pictures.copies), folds == fold
        head, _ = train_head(pictures.features[trains], pictures.labels[trains], num_classes, smaller)
        outputs[judged] = head.predict(pictures.plain[judged])
    return fold_outputs(outputs, pictures, folds, units=smaller.units)


def fold_outputs(
    outputs: Float32Outputs, pictures: TrainingSet, folds: NDArray[np.int64], *, units: int
) -> FoldOutputs:
    """Return the answers of heads for a set of pictures with its labels and groups; see `FoldOutputs`."""
    names = [pictures.groups.get(id, id) for id in pictures.ids]
    return FoldOutputs(
        outputs=outputs,
        labels=pictures.labels[: len(folds)],
        folds=folds,
        groups=np.unique(names, return_inverse=True)[1].astype(np.int64),
        units=units,
    )


def hold_out(pictures: TrainingSet, *, seed: int) -> NDArray[np.int64] | None:
    """Return which of the five folds holds each picture out, as `assign_folds` does; None for too few."""
    labels = pictures.labels[: len(pictures.ids)]
    folds = assign_folds(pictures.ids, labels, pictures.groups, seed=seed, num_folds=FOLDS)
    sizes = np.bincount(folds[folds >= 0], minlength=FOLDS)
    return None if sizes.sum() < MIN_PICTURES or not sizes.all() else folds
