"""Figures of held-out answers and their standard errors.

A figure is that of all held-out answers together. Its error is a jackknife over the folds: the figure is
computed without each fold. The folds' heads share most of their training pictures, so that their figures
differ less than those of independent trainings would; Nadeau and Bengio (Inference for the generalization
error, Machine Learning 52, 2003) add the ratio of judged to training pictures to the variance, which for five
folds makes the error 1.5 times as large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.model_comparison import CrossValidated, Estimate
from pipeline.evaluate.scores import calibration_error, picture_losses, reliability_bins
from pipeline.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedOption:
    """The held-out answers of one option, picture by picture.

    Args:
        correct: Whether the most probable class is the label.
        confidence: The largest probability.
        losses: Minus the logarithm of the label's probability.
    """

    correct: BoolArray
    confidence: FloatArray
    losses: FloatArray

    @property
    def log_loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())


def judge(labels: IntArray, outputs: NDArray[np.float32]) -> JudgedOption:
    """Judge an option's answers.

    Shapes:
        labels: (num_images,).  outputs: (num_images, classes).
    """
    probabilities: FloatArray = outputs.astype(np.float64)
    return JudgedOption(
        correct=probabilities.argmax(1) == labels,
        confidence=probabilities.max(1),
        losses=picture_losses(labels, probabilities),
    )


def estimate_scores(option: JudgedOption, best: JudgedOption, folds: IntArray) -> CrossValidated:
    """Return an option's figures, and how far it is behind the best one.

    Shapes:
        folds: (num_images,).
    """
    correct, confidence, losses = option.correct, option.confidence, option.losses
    difference = losses - best.losses
    return CrossValidated(
        accuracy=estimate(lambda rows: float(correct[rows].mean()), folds),
        log_loss=estimate(lambda rows: float(losses[rows].mean()), folds),
        ece=estimate(
            lambda rows: calibration_error(reliability_bins(correct[rows], confidence[rows])), folds
        ),
        behind=estimate(lambda rows: float(difference[rows].mean()), folds),
    )


def estimate(figure: Callable[[BoolArray], float], folds: IntArray) -> Estimate:
    """Return the figure of all pictures and its standard error.

    Args:
        figure: Computes it of the pictures that a mask selects.
        folds: Which fold each picture was left out in.

    Shapes:
        folds: (num_images,).
    """
    numbers = np.unique(folds)
    count = len(numbers)
    without = np.array([figure(folds != number) for number in numbers])
    jackknife = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    correction = 1 + count / (count - 1)  # (1/k + judged/training) over the 1/k of independent parts
    return Estimate(value=figure(np.ones(len(folds), np.bool_)), error=(jackknife * correction) ** 0.5)


def estimate_mean(values: Sequence[float], pictures: Sequence[int]) -> Estimate:
    """Return the mean of all pictures and its standard error, from the means of the folds.

    Args:
        values: The mean of each fold.
        pictures: How many pictures each fold has.
    """
    means, weights = np.array(values), np.array(pictures)
    return estimate(
        lambda rows: float(np.average(means[rows], weights=weights[rows])), np.arange(len(values))
    )


def selection_optimism(options: Sequence[JudgedOption], folds: IntArray) -> float:
    """Return by how much the least log loss of several options is too small because it is the least."""
    numbers = np.unique(folds)
    losses = np.array([[option.losses[folds == number].mean() for number in numbers] for option in options])
    return optimism_of_folds(losses, best=int(np.argmin([option.log_loss for option in options])))


def optimism_of_folds(losses: FloatArray, *, best: int) -> float:
    """Return by how much the loss of the best option is too small because it is the least.

    The estimate of Tibshirani and Tibshirani (A bias correction for the minimum error rate in
    cross-validation, Annals of Applied Statistics 3, 2009): how much the best option of all pictures is
    behind the best one of each fold, on that fold.

    Args:
        losses: Of each option and fold.
        best: Place of the best option.

    Shapes:
        losses: (options, folds).
    """
    return float((losses[best] - losses.min(0)).mean())
