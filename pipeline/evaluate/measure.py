"""All metrics of one model's answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.artifacts.metrics import ClassMetrics, Interval, Metrics
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.bootstrap import bootstrap_intervals
from pipeline.evaluate.score_intervals import class_f1_interval, mean_f1_interval, share_interval, widen
from pipeline.evaluate.scores import (
    average_over_classes,
    calibration_error,
    class_scores,
    coverage_curve,
    picture_briers,
    picture_losses,
    precision_recall_area,
    reliability_bins,
    roc_area,
    top_k_accuracy,
)
from pipeline.types import IntArray

TOP_K = (2, 3, 5)


def count_confusion(answers: Answers) -> IntArray:
    """Return (classes, classes): how many pictures of a label were taken for each class."""
    width = len(answers.classes)
    return np.bincount(answers.truth * width + answers.predicted, minlength=width * width).reshape(
        width, width
    )


def measure(answers: Answers) -> Metrics:
    """Return every metric of a model's answers; docs/evaluation.md defines them.

    A class without test pictures has no recall and takes no part in means over classes. Areas need
    pictures of the class and of others.
    """
    counts = count_confusion(answers)
    hits, answered, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    intervals, f1_interval = bootstrap_intervals(answers)
    del intervals["accuracy"]  # Wilson's is better
    means = _means(hits, answered, support)
    for name in ("macro_f1", "weighted_f1"):
        bounds = mean_f1_interval(answers, means[name] or 0.0, weighted=name == "weighted_f1")
        intervals[name] = widen(intervals[name], bounds)
    per_class = _per_class(answers, hits, answered, support, f1_interval)
    bins = reliability_bins(answers.correct, answers.confidence)
    total = len(answers.truth)
    return Metrics(
        accuracy=float(hits.sum() / total),
        accuracy_ci95=share_interval(answers.correct, answers.groups) or (0.0, 1.0),
        loss=float(picture_losses(answers.truth, answers.probabilities).mean()),
        test_pictures=total,
        confusion={
            label: dict(zip(answers.classes, map(int, row), strict=True))
            for label, row in zip(answers.classes, counts, strict=True)
        },
        scores={
            **means,
            **{f"top_{k}_accuracy": top_k_accuracy(answers.truth, answers.probabilities, k) for k in TOP_K},
            **{area: _mean_area(per_class, area) for area in ("roc_auc", "pr_auc")},
            "brier": float(picture_briers(answers.truth, answers.probabilities).mean()),
            "ece": calibration_error(bins),
        },
        intervals=intervals,
        per_class=per_class,
        reliability=bins,
        coverage=coverage_curve(answers.correct, answers.confidence),
    )


def _means(hits: IntArray, answered: IntArray, support: IntArray) -> dict[str, float | None]:
    precision, recall, f1 = class_scores(hits, answered, support)
    macro_f1, weighted_f1 = average_over_classes(f1, support)
    return {
        "macro_f1": float(macro_f1),
        "weighted_f1": float(weighted_f1),
        "macro_precision": float(average_over_classes(precision, support)[0]),
        "macro_recall": float(average_over_classes(recall, support)[0]),
    }


def _mean_area(per_class: dict[str, ClassMetrics], area: str) -> float | None:
    areas = (row.value_of(area) for row in per_class.values() if row.support)
    defined = [value for value in areas if value is not None]
    return float(np.mean(defined)) if defined else None


def _per_class(
    answers: Answers,
    hits: IntArray,
    answered: IntArray,
    support: IntArray,
    f1_interval: Callable[[int], Interval | None],
) -> dict[str, ClassMetrics]:
    rows = {}
    precision, recall, f1 = class_scores(hits, answered, support)
    for index, label in enumerate(answers.classes):
        positive, scores = answers.truth == index, answers.probabilities[:, index]
        taken = answers.predicted == index
        rows[label] = ClassMetrics(
            support=int(support[index]),
            predicted=int(answered[index]),
            precision=_number(precision[index]),
            precision_ci95=share_interval(positive[taken], answers.groups[taken]),
            recall=_number(recall[index]),
            recall_ci95=share_interval(taken[positive], answers.groups[positive]),
            f1=_number(f1[index]),
            f1_ci95=widen(f1_interval(index), class_f1_interval(answers, index)) if support[index] else None,
            roc_auc=roc_area(positive, scores),
            pr_auc=precision_recall_area(positive, scores),
        )
    return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
