"""Logistic regression on features of length one; how strongly it is regularized is cross-validated.

Each candidate is fitted without a fold of the training pictures, in whole groups, and judged on that fold.
The best one's answers for the pictures it was not fitted to also fit the temperature, and tell how much the
accuracy differs when the head is trained again. No test picture is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.training import Calibration, HeadParameters, Regularization
from pipeline.errors import EmptyDataset
from pipeline.tflite.head import LogisticHead, softmax
from pipeline.tflite.novelty import unit_rows
from pipeline.trainer.calibration import TrainingSet, calibration_of, log_loss, soften
from pipeline.trainer.cross_validation import FOLDS, FoldOutputs, fold_outputs, hold_out
from pipeline.types import Float32Features, Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANDIDATES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)  # C: a larger one regularizes less
UNTRIED = 100.0  # where too few pictures can be held out
_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-5  # with scikit-learn's 1e-4, a fit that begins near the optimum stops where it begins


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticFit:
    """A fitted head and how it was chosen.

    Args:
        head: The head, its logits divided by the temperature.
        regularization: The C that was chosen, and what it was chosen from.
        calibration: The temperature; None where none was wanted, or too few pictures could be held out.
        folds: What the heads of that C answer for a fold they were fitted without; None for too few pictures.
    """

    head: LogisticHead
    regularization: Regularization
    calibration: Calibration | None
    folds: FoldOutputs | None


def fit_logistic(pictures: TrainingSet, parameters: HeadParameters, num_classes: int) -> LogisticFit:
    """Choose C, and fit a head to all pictures.

    Args:
        pictures: What trains the head.
        parameters: Seed of the folds, weights of the classes, and whether to calibrate.
        num_classes: Width of the output.

    Raises:
        EmptyDataset: if a class has no picture.
    """
    _check_classes(pictures.labels, num_classes)
    units, balanced = unit_rows(pictures.features), parameters.class_weights == "balanced"
    folds = hold_out(pictures, seed=parameters.seed)
    if folds is None:
        [head] = _fit_path(units, pictures.labels, (UNTRIED,), balanced=balanced)
        return LogisticFit(head=head, regularization=Regularization(c=UNTRIED), calibration=None, folds=None)
    logits = _cross_fit(pictures, units, folds, num_classes, balanced=balanced)
    held_out, truth = folds >= 0, pictures.labels[: len(folds)]
    losses = tuple(log_loss(each[held_out], truth[held_out]) for each in logits)
    best = int(np.argmin(losses))  # of equal ones the most regularized
    [head] = _fit_path(units, pictures.labels, (CANDIDATES[best],), balanced=balanced)
    calibration = None
    if parameters.calibration == "temperature":
        calibration = calibration_of(logits[best][held_out], truth[held_out])
        head = soften(head, calibration.temperature)
    return LogisticFit(
        head=head,
        regularization=Regularization(c=CANDIDATES[best], tried=CANDIDATES, log_losses=losses),
        calibration=calibration,
        folds=fold_outputs(softmax(logits[best]), pictures, folds, units=0),
    )


def _check_classes(labels: Int64Labels, num_classes: int) -> None:
    if missing := sorted(set(range(num_classes)) - set(labels.tolist())):
        raise EmptyDataset(
            f"Class {missing[0]} has no picture that trains, and logistic regression needs one of each. "
            "Add pictures, or use `model.head.type: dense`."
        )


def _cross_fit(
    pictures: TrainingSet,
    units: Float32Features,
    folds: NDArray[np.int64],
    num_classes: int,
    *,
    balanced: bool,
) -> NDArray[np.float32]:
    """Return each candidate's logits of each held-out picture, which neither it nor its copies trained.

    Shapes:
        units: (copies * num_images, feature_width).  folds: (num_images,).
        returns: (candidates, num_images, classes).
    """
    logits = np.zeros((len(CANDIDATES), len(folds), num_classes), np.float32)
    for fold in range(FOLDS):
        trains, rows = np.tile(folds != fold, pictures.copies), np.flatnonzero(folds == fold)
        path = _fit_path(units[trains], pictures.labels[trains], CANDIDATES, balanced=balanced)
        for place, head in enumerate(path):
            logits[place, rows] = head.score(units[rows])
    return logits


def _fit_path(
    units: Float32Features, labels: Int64Labels, strengths: tuple[float, ...], *, balanced: bool
) -> Iterator[LogisticHead]:
    """Yield the head of each C; each fit begins where the one before ended."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    model = LogisticRegression(
        max_iter=_MAX_ITERATIONS,
        tol=_TOLERANCE,
        warm_start=True,
        class_weight="balanced" if balanced else None,
    )
    for strength in strengths:
        model.set_params(C=strength).fit(units, labels)
        kernel, bias = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
        if len(bias) == 1:  # of two classes it has the difference of the logits
            kernel, bias = np.concatenate([-kernel, kernel], 1) / 2, np.concatenate([-bias, bias]) / 2
        yield LogisticHead(output_kernel=np.ascontiguousarray(kernel), output_bias=bias)
