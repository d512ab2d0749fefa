"""Training pictures whose label is in doubt: what a model that has not seen a picture says of its label.

The pictures' features are there, so the model is a ridge regression in closed form: one Gram matrix serves
all folds, and ten thousand pictures take seconds. Near duplicates stay in one fold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import Float32Features, Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_FOLDS = 5
_RIDGE = 1.0  # per picture, on standardised features
_SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # of the softmax; the likeliest is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIssue:
    """A picture whose label is in doubt.

    Args:
        row: Its row among the features.
        label: Class index of the label it has.
        suggested: Class index that the others make likely.
        self_confidence: Probability of its own label, by a model that has not seen it.
    """

    row: int
    label: int
    suggested: int
    self_confidence: float


def cross_validated_probabilities(
    features: Float32Features,
    labels: Int64Labels,
    num_classes: int,
    *,
    groups: Sequence[str] | None = None,
    folds: int = NUM_FOLDS,
) -> NDArray[np.float64]:
    """Return the class probabilities of each picture, by a model that was made without it and its group.

    Shapes:
        features: (num_images, feature_width).  labels: (num_images,).  returns: (num_images, num_classes).
    """
    scaled = features.astype(np.float64)
    scaled -= scaled.mean(0)
    scaled /= scaled.std(0) + 1e-6
    targets = np.eye(num_classes)[labels]
    fold = assign_folds(labels, groups, folds)
    gram, products = scaled.T @ scaled, scaled.T @ targets
    scores = np.zeros((len(labels), num_classes))
    for number in np.unique(fold):
        mine = fold == number
        part = scaled[mine]
        rest = gram - part.T @ part
        rest[np.diag_indices_from(rest)] += _RIDGE * (~mine).sum()
        seen = targets[~mine]
        centre = seen.mean(0) if len(seen) else np.full(num_classes, 1 / num_classes)
        right_side = products - part.T @ targets[mine] - (scaled[~mine].sum(0)[:, None] * centre)
        scores[mine] = part @ np.linalg.solve(rest, right_side) + centre
    candidates = [_softmax(scores * sharpness) for sharpness in _SHARPNESS]
    rows = np.arange(len(labels))
    likelihoods = [float(np.log(np.maximum(p[rows, labels], 1e-12)).mean()) for p in candidates]
    return candidates[int(np.argmax(likelihoods))]


def find_label_issues(probabilities: NDArray[np.float64], labels: Int64Labels) -> list[LabelIssue]:
    """Return the pictures that the others would label otherwise, the least confident label first."""
    own = probabilities[np.arange(len(labels)), labels]
    suggested = probabilities.argmax(1)
    rows = [int(row) for row in np.argsort(own, kind="stable") if suggested[row] != labels[row]]
    return [
        LabelIssue(
            row=row,
            label=int(labels[row]),
            suggested=int(suggested[row]),
            self_confidence=float(own[row]),
        )
        for row in rows
    ]


def assign_folds(labels: Int64Labels, groups: Sequence[str] | None, folds: int) -> NDArray[np.int64]:
    """Deal the groups of each class out to the folds, in an order that depends on nothing but their names."""
    names = list(groups) if groups is not None else [str(row) for row in range(len(labels))]
    fold_of: dict[str, int] = {}
    dealt: dict[int, int] = {}
    order = sorted(range(len(names)), key=lambda row: hashlib.sha256(names[row].encode()).digest())
    for row in order:
        if names[row] not in fold_of:
            label = int(labels[row])
            fold_of[names[row]] = (dealt.get(label, 0) + label) % folds
            dealt[label] = dealt.get(label, 0) + 1
    return np.array([fold_of[name] for name in names], np.int64)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return result
