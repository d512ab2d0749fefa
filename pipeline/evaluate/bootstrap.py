"""Group bootstrap of every metric that is made of sums over pictures.

Whole groups of near duplicates are drawn, because pictures of one group are right or wrong together. The
draws depend on nothing but the grouping, so two models on the same pictures get the same ones: differences
are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.metrics import Interval
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.scores import average_over_classes, class_scores, picture_briers, picture_losses
from pipeline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

REPLICATES = 1000
SEED = 20261123
CHUNK = 100


def resampled_sums(
    columns: csr_array, groups: IntArray, *, replicates: int = REPLICATES, seed: int = SEED
) -> FloatArray:
    """Return the column sums of samples that draw groups with replacement.

    Args:
        columns: What is summed; a SciPy sparse array.
        groups: Group number of each row, from 0 without gaps.
        replicates: How many samples.
        seed: Of the draws.

    Shapes:
        columns: (pictures, columns).  groups: (pictures,).  Returns (replicates, columns).
    """
    from scipy.sparse import csr_array

    size = int(groups.max()) + 1
    member = csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))), shape=(size, len(groups)))
    by_group = (member @ columns).T.tocsr()
    random = np.random.default_rng(seed)
    parts = []
    for start in range(0, replicates, CHUNK):
        weights = random.multinomial(size, np.full(size, 1 / size), size=min(CHUNK, replicates - start))
        parts.append((by_group @ weights.T.astype(np.float64)).T)
    return np.concatenate(parts)


def sum_columns(answers: Answers) -> csr_array:
    """Return what each picture adds to the sums that metrics are made of.

    Shapes:
        (pictures, 4 + 3 * classes): one, hit, loss, Brier score; then hits, answers, pictures by class.
    """
    from scipy.sparse import csr_array

    rows, width = np.arange(len(answers.truth)), len(answers.classes)
    correct = answers.correct
    parts: list[tuple[IntArray, IntArray, FloatArray]] = [
        (rows, np.zeros_like(rows), np.ones(len(rows))),
        (rows, np.full_like(rows, 1), correct.astype(np.float64)),
        (rows, np.full_like(rows, 2), picture_losses(answers.truth, answers.probabilities)),
        (rows, np.full_like(rows, 3), picture_briers(answers.truth, answers.probabilities)),
        (rows[correct], 4 + answers.truth[correct], np.ones(int(correct.sum()))),
        (rows, 4 + width + answers.predicted, np.ones(len(rows))),
        (rows, 4 + 2 * width + answers.truth, np.ones(len(rows))),
    ]
    row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return csr_array((value, (row, column)), shape=(len(rows), 4 + 3 * width))


def metrics_of_sums(sums: FloatArray) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return the metrics of each row of sums by name, and the F1 of each class."""
    total = sums[:, 0]
    hits, answered, support = np.split(sums[:, 4:], 3, axis=1)
    f1 = class_scores(hits, answered, support)[2]
    macro, weighted = average_over_classes(f1, support)
    metrics = {
        "accuracy": sums[:, 1] / total,
        "loss": sums[:, 2] / total,
        "brier": sums[:, 3] / total,
        "macro_f1": macro,
        "weighted_f1": weighted,
    }
    return metrics, np.where(support > 0, f1, np.nan)


def percentile_interval(values: FloatArray, confidence: float = 0.95) -> Interval | None:
    """Return the middle of the replicates; None where hardly any of them is defined."""
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2:
        return None
    tail = 50 * (1 - confidence)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_metrics(
    answers: Answers, *, replicates: int = REPLICATES
) -> tuple[dict[str, FloatArray], FloatArray] | None:
    """Return replicates of the metrics and of each class's F1; None where there is only one group."""
    if answers.groups.max() == 0:
        return None
    sums = resampled_sums(sum_columns(answers), answers.groups, replicates=replicates)
    return metrics_of_sums(sums)


def bootstrap_intervals(
    answers: Answers, *, replicates: int = REPLICATES
) -> tuple[dict[str, Interval | None], Callable[[int], Interval | None]]:
    """Return the intervals of the metrics by name, and a function for that of one class's F1."""
    drawn = bootstrap_metrics(answers, replicates=replicates)
    if drawn is None:
        return dict.fromkeys(("accuracy", "loss", "brier", "macro_f1", "weighted_f1")), lambda index: None
    metrics, f1 = drawn
    return (
        {name: percentile_interval(values) for name, values in metrics.items()},
        lambda index: percentile_interval(f1[:, index]),
    )


def difference_intervals(candidate: Answers, champion: Answers) -> dict[str, Interval | None]:
    """Return the paired intervals of candidate minus champion, by metric."""
    one, other = bootstrap_metrics(candidate), bootstrap_metrics(champion)
    if one is None or other is None:
        return {}
    return {name: percentile_interval(values - other[0][name]) for name, values in one[0].items()}
