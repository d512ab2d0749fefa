"""Curves of each class as the threshold on its probability falls, and the temperature that fits best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.artifacts.metrics import ReliabilityBin
from pipeline.evaluate.scores import reliability_bins
from pipeline.report.ranking import EPSILON, Answer
from pipeline.report.views import UnlikeShare

UNLIKE_LIMITS = (0.9, 0.95, 0.99)
MAX_CLASSES = 8  # lines in one drawing
TEMPERATURES = (0.05, 20.0)
STEPS = 30  # of golden section: to a millionth
GOLDEN = (math.sqrt(5) - 1) / 2

Curve = list[tuple[float, float]]


def class_curves(
    answers: Sequence[Answer], classes: Sequence[str]
) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Return (recall, precision) and (false, true positive rate) of the first classes.

    Answers of equal probability cross the threshold together. A curve that is not defined is left out.
    """
    precision: dict[str, Curve] = {}
    rates: dict[str, Curve] = {}
    for index, label in enumerate(classes[:MAX_CLASSES]):
        total = sum(answer.label == label for answer in answers)
        others = len(answers) - total
        points = list(_sweep(answers, index, label))
        if total:
            curve = [(hits / total, hits / taken) for taken, hits in points]
            precision[label] = [(0.0, curve[0][1]), *curve]
        if total and others:
            rates[label] = [(0.0, 0.0), *(((taken - hits) / others, hits / total) for taken, hits in points)]
    return precision, rates


def _sweep(answers: Sequence[Answer], index: int, label: str) -> Iterator[tuple[int, int]]:
    """Yield how many answers are above each threshold, and how many of them are of the class."""
    ordered = sorted(answers, key=lambda answer: -answer.row.outputs[index])
    hits = 0
    for taken, answer in enumerate(ordered, start=1):
        hits += answer.label == label
        is_last = taken == len(ordered)
        if is_last or ordered[taken].row.outputs[index] != answer.row.outputs[index]:
            yield taken, hits


def unlike_shares(answers: Sequence[Answer]) -> list[UnlikeShare]:
    """Return how many test pictures each limit on the novelty would reject; nothing without a novelty."""
    values = [answer.row.novelty for answer in answers if answer.row.novelty is not None]
    return [
        UnlikeShare(limit=limit, share=sum(value > limit for value in values) / len(values))
        for limit in UNLIKE_LIMITS
        if values
    ]


def uncalibrated_reliability(answers: Sequence[Answer], temperature: float) -> tuple[ReliabilityBin, ...]:
    """Return the reliability bins that the answers would have without the temperature of the model.

    Probabilities are powers of their logits, so raising them to the temperature undoes the division.
    """
    import numpy as np

    if not answers:
        return ()
    outputs = np.array([answer.row.outputs for answer in answers], float)
    outputs /= outputs.max(1, keepdims=True)  # of which the largest power stays one
    confidence = 1 / (outputs**temperature).sum(1)
    return reliability_bins(np.array([answer.is_right for answer in answers]), confidence)


def fit_temperature(answers: Sequence[Answer], classes: Sequence[str]) -> float | None:
    """Return the temperature that makes the labels most probable; None where no finite one does.

    Above 1 the model is surer than it should be. It is fitted on the test pictures, so it only describes.
    """
    import numpy as np

    if not answers:
        return None
    outputs = np.array([answer.row.outputs for answer in answers], float)
    scores = np.log(np.maximum(outputs, EPSILON))
    own = scores[np.arange(len(answers)), [classes.index(answer.label) for answer in answers]]
    if (own == scores.max(1)).all():
        return None  # the colder the better

    def loss(logarithm: float) -> float:
        temperature = math.exp(logarithm)
        return float((np.logaddexp.reduce(scores / temperature, axis=1) - own / temperature).sum())

    low, high = map(math.log, TEMPERATURES)
    for _ in range(STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)
