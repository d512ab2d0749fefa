"""Metrics of arrays, each by its definition; the tests hold them to scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.artifacts.metrics import CoveragePoint, ReliabilityBin
from pipeline.evaluate.metrics import EPSILON
from pipeline.types import BoolArray, FloatArray, IntArray

NUM_BINS = 15
THRESHOLDS = (*(step / 20 for step in range(20)), 0.99)


def picture_losses(truth: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return minus the logarithm of each label's probability, clipped as Keras does."""
    chosen = probabilities[np.arange(len(truth)), truth]
    losses: FloatArray = -np.log(np.clip(chosen, EPSILON, 1 - EPSILON))
    return losses


def picture_briers(truth: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return each picture's squared distance between probabilities and truth, summed over classes."""
    hit = probabilities[np.arange(len(truth)), truth]
    briers: FloatArray = (probabilities**2).sum(axis=1) - 2 * hit + 1
    return briers


def top_k_accuracy(truth: IntArray, probabilities: FloatArray, k: int) -> float:
    """Return the share of pictures whose label is among the k most probable classes.

    Of equally probable classes the earlier one counts as more probable, as everywhere in Graft.
    """
    chosen = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1])[None, :] < truth[:, None]
    ahead = (probabilities > chosen) | ((probabilities == chosen) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def roc_area(positive: BoolArray, scores: FloatArray) -> float | None:
    """Return the area under the ROC curve, None unless there are positives and negatives."""
    wins, total = int(positive.sum()), len(positive)
    if wins in (0, total):
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share their mean rank
    return float((ranks[positive].sum() - wins * (wins + 1) / 2) / (wins * (total - wins)))


def precision_recall_area(positive: BoolArray, scores: FloatArray) -> float | None:
    """Return the average precision, None without positives."""
    wins = int(positive.sum())
    if wins == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of equal scores
    hits = np.cumsum(positive[order])[ends]
    precision = hits / (ends + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / wins)


def reliability_bins(correct: BoolArray, confidence: FloatArray) -> tuple[ReliabilityBin, ...]:
    """Return 15 bins of equal width, the empty ones left out: count, mean confidence, accuracy."""
    edges = np.linspace(0, 1, NUM_BINS + 1)
    places = np.searchsorted(edges[1:-1], confidence)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            ReliabilityBin(
                low=float(edges[place]),
                high=float(edges[place + 1]),
                pictures=int(inside.sum()),
                confidence=float(confidence[inside].mean()),
                accuracy=float(correct[inside].mean()),
            )
        )
    return tuple(bins)


def calibration_error(bins: Iterable[ReliabilityBin]) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over pictures."""
    rows = list(bins)
    gaps = sum(row.pictures * abs(row.confidence - row.accuracy) for row in rows)
    return gaps / sum(row.pictures for row in rows)


def coverage_curve(correct: BoolArray, confidence: FloatArray) -> tuple[CoveragePoint, ...]:
    """Return what is answered, and how well, when answers below a threshold of confidence are withheld."""
    rows = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        rows.append(
            CoveragePoint(
                threshold=threshold,
                coverage=float(kept.mean()),
                accuracy=float(correct[kept].mean()) if kept.any() else None,
            )
        )
    return tuple(rows)


def class_scores(
    hits: IntArray | FloatArray, answered: IntArray | FloatArray, support: IntArray | FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return precision, recall and F1 from counts; NaN where a denominator is zero.

    Shapes:
        hits, answered, support: (..., classes): right answers, answers, pictures.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / answered, hits / support, 2 * hits / (answered + support)


def average_over_classes(values: FloatArray, support: IntArray | FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the plain and the support-weighted mean over the classes that have pictures.

    A class that is never answered counts as 0. NaN where no class has a picture.
    """
    tested = support > 0
    filled = np.where(tested, np.nan_to_num(values), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return filled.sum(-1) / tested.sum(-1), (filled * support).sum(-1) / support.sum(-1)
