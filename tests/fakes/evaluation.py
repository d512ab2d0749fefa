"""Evaluations made by hand, for tests of what is decided on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.artifacts.evaluation import Comparison, Difference, Evaluation, SliceMetrics
from pipeline.artifacts.metrics import ClassMetrics, Metrics
from pipeline.evaluate.compare import compare_pairs
from pipeline.evaluate.metrics import wilson_interval

CLASS_METRICS = ClassMetrics(
    support=20,
    predicted=20,
    precision=0.9,
    precision_ci95=(0.7, 0.97),
    recall=0.9,
    recall_ci95=(0.7, 0.97),
    f1=0.9,
    f1_ci95=(0.75, 1.0),
    roc_auc=0.95,
    pr_auc=0.94,
)
SCORES: dict[str, float | None] = {
    "macro_f1": 0.88,
    "weighted_f1": 0.89,
    "macro_precision": 0.87,
    "macro_recall": 0.86,
    "top_2_accuracy": 0.97,
    "top_3_accuracy": 1.0,
    "top_5_accuracy": 1.0,
    "roc_auc": 0.95,
    "pr_auc": 0.94,
    "brier": 0.15,
    "ece": 0.05,
}


def metrics(
    accuracy: float = 0.9,
    loss: float = 0.2,
    test_pictures: int = 40,
    classes: dict[str, dict[str, Any]] | None = None,
    **scores: float | None,
) -> Metrics:
    return Metrics(
        accuracy=accuracy,
        accuracy_ci95=wilson_interval(accuracy * test_pictures, test_pictures),
        loss=loss,
        test_pictures=test_pictures,
        confusion={},
        scores={**SCORES, **scores},
        intervals={"macro_f1": (0.8, 0.95), "loss": None},
        per_class={
            label: replace(CLASS_METRICS, **(classes or {}).get(label, {})) for label in ("cat", "dog")
        },
    )


def pairs(gained: int, lost: int, pictures: int, group_size: int = 1, **intervals: Any) -> Comparison:
    candidate = [*[True] * gained, *[False] * lost, *[True] * (pictures - gained - lost)]
    champion = [*[False] * gained, *[True] * lost, *[True] * (pictures - gained - lost)]
    return compare_pairs(
        [f"k{index}" for index in range(pictures)],
        candidate,
        champion,
        groups=[index // group_size for index in range(pictures)],
        differences={name: Difference(value=0.0, ci95=value) for name, value in intervals.items()},
    )


def evaluation(candidate: Metrics | None = None, champion: Metrics | None = None, **more: Any) -> Evaluation:
    version = {"champion_version": "v_1"} if champion or "comparison" in more else {}
    return Evaluation(
        job="graft_b",
        classes=("cat", "dog"),
        candidate=candidate or metrics(),
        champion=champion,
        **{**version, **more},
    )


def part(accuracy: float, pictures: int = 10, champion: dict[str, float] | None = None) -> SliceMetrics:
    alone = SliceMetrics(
        pictures=pictures,
        accuracy=accuracy,
        accuracy_ci95=(accuracy - 0.1, accuracy + 0.1),
        loss=1 - accuracy,
        macro_f1=accuracy,
    )
    return replace(alone, champion=replace(alone, **champion)) if champion else alone
