"""Cross-validation on training pictures: how much the accuracy differs when the head is trained again.

The interval of a test speaks of one trained model. Here the head is trained five times on four fifths of the
pictures and judged on the rest, in whole groups. These heads have at most 128 hidden units, which costs less
than one more training of the default head. No test picture is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.training import CrossValidation, HeadParameters
from pipeline.trainer.calibration import MIN_PICTURES, TrainingSet, assign_folds
from pipeline.trainer.head import train_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
MAX_UNITS = 128


def cross_validate(
    pictures: TrainingSet, parameters: HeadParameters, *, num_classes: int, epochs: int
) -> CrossValidation | None:
    """Train heads without a fold of the pictures each, and judge them on it.

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
    labels, plain = pictures.labels[: len(folds)], pictures.plain
    smaller = replace(parameters, epochs=epochs, units=min(parameters.units, MAX_UNITS))
    accuracies, losses = [], []
    for fold in range(FOLDS):
        trains, judged = np.tile(folds != fold, pictures.copies), folds == fold
        head, _ = train_head(pictures.features[trains], pictures.labels[trains], num_classes, smaller)
        outputs = head.predict(plain[judged])
        own = outputs[np.arange(len(outputs)), labels[judged]]
        accuracies.append(float((outputs.argmax(1) == labels[judged]).mean()))
        losses.append(float(-np.log(np.maximum(own, 1e-7)).mean()))
    return CrossValidation(
        folds=FOLDS,
        pictures=int((folds >= 0).sum()),
        accuracy=float(np.mean(accuracies)),
        spread=float(np.std(accuracies, ddof=1)),
        log_loss=float(np.mean(losses)),
        units=smaller.units,
    )


def hold_out(pictures: TrainingSet, *, seed: int) -> NDArray[np.int64] | None:
    """Return which of the five folds holds each picture out, as `assign_folds` does; None for too few."""
    labels = pictures.labels[: len(pictures.ids)]
    folds = assign_folds(pictures.ids, labels, pictures.groups, seed=seed, num_folds=FOLDS)
    sizes = np.bincount(folds[folds >= 0], minlength=FOLDS)
    return None if sizes.sum() < MIN_PICTURES or not sizes.all() else folds
