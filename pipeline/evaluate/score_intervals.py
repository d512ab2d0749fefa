"""Score intervals of shares and of F1, which do not shrink to a point where every answer is right.

A bootstrap of answers without a mistake draws answers without a mistake: its interval is 1 to 1, on sixteen
pictures as on sixteen thousand. Wilson's interval of the same share is not, and it bounds what the bootstrap
leaves too narrow. Near duplicates are right or wrong together, so the design effect of groups lowers the
number of pictures.
"""

from __future__ import annotations

import numpy as np

from pipeline.artifacts.metrics import Interval
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.compare import design_effect
from pipeline.evaluate.metrics import wilson_interval
from pipeline.types import BoolArray, IntArray


def share_interval(right: BoolArray, groups: IntArray) -> Interval | None:
    """Return Wilson's interval of the share that is right, with the design effect; None without a picture.

    Shapes:
        right, groups: (pictures,).
    """
    total = len(right)
    if not total:
        return None
    effect = design_effect(right.astype(int).tolist(), groups.tolist())
    return wilson_interval(float(right.sum()) / effect, total / effect)


def class_f1_interval(answers: Answers, index: int) -> Interval | None:
    """Return the score interval of a class's F1; None where no picture is of the class or taken for it.

    Of the pictures that are of the class or taken for it, the share J that is both has Wilson's interval,
    and F1 = 2 J / (1 + J).
    """
    concerned = (answers.truth == index) | (answers.predicted == index)
    bounds = share_interval(answers.correct[concerned], answers.groups[concerned])
    return None if bounds is None else (2 * bounds[0] / (1 + bounds[0]), 2 * bounds[1] / (1 + bounds[1]))


def mean_f1_interval(answers: Answers, value: float, *, weighted: bool) -> Interval:
    """Return Wilson's interval of a mean F1, as if it were a share of as many pictures as it weighs.

    Args:
        answers: The model's.
        value: The mean F1.
        weighted: Whether classes weigh by their pictures; else each weighs the same, and the smallest
            classes bound what is known.
    """
    total = len(answers.truth)
    effect = design_effect(answers.correct.astype(int).tolist(), answers.groups.tolist())
    support = np.bincount(answers.truth)
    support = support[support > 0]
    pictures = total if weighted else len(support) ** 2 / float((1 / support).sum())
    return wilson_interval(value * pictures / effect, pictures / effect)


def widen(interval: Interval | None, bounds: Interval | None) -> Interval | None:
    """Return the interval widened to the bounds; None where there is no interval."""
    if interval is None or bounds is None:
        return interval
    return min(interval[0], bounds[0]), max(interval[1], bounds[1])
