from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.label_issues import (
    assign_folds,
    cross_validated_probabilities,
    find_label_issues,
)


def clusters(number: int, classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    centres = random.normal(size=(classes, 16)) * 2
    return (centres[labels] + random.normal(size=(number, 16))).astype(np.float32), labels


def test_flipped_labels_are_found_first() -> None:
    features, labels = clusters(300, 3)
    flipped = np.random.default_rng(1).choice(300, 15, replace=False)
    given = labels.copy()
    given[flipped] = (labels[flipped] + 1) % 3
    issues = find_label_issues(cross_validated_probabilities(features, given, 3), given)
    found = {issue.row for issue in issues[:15]} & set(flipped.tolist())
    assert len(found) >= 13
    assert all(issue.suggested == labels[issue.row] for issue in issues if issue.row in found)


def test_each_fold_is_what_a_model_made_without_it_says() -> None:
    features, labels = clusters(60, 2)
    folds = assign_folds(labels, None, 5)
    scaled = features.astype(np.float64)
    scaled = (scaled - scaled.mean(0)) / (scaled.std(0) + 1e-6)
    expected = np.zeros((60, 2))
    for fold in range(5):
        seen = folds != fold
        targets = np.eye(2)[labels[seen]]
        gram = scaled[seen].T @ scaled[seen] + seen.sum() * np.eye(16)
        weights = np.linalg.solve(gram, scaled[seen].T @ (targets - targets.mean(0)))
        expected[~seen] = scaled[~seen] @ weights + targets.mean(0)
    found = cross_validated_probabilities(features, labels, 2)
    ratio = np.log(found[:, 1] / found[:, 0]) / (expected[:, 1] - expected[:, 0])
    assert ratio == pytest.approx(ratio[0])


def test_a_group_never_straddles_folds_and_classes_are_dealt_evenly() -> None:
    labels = np.arange(100) % 2
    groups = [f"g{number // 4}" for number in range(100)]
    folds = assign_folds(labels, groups, 5)
    assert all(len({folds[row] for row in range(100) if groups[row] == group}) == 1 for group in set(groups))
    assert np.bincount(folds).tolist() == [20] * 5


def test_clean_labels_of_apart_classes_raise_no_issue() -> None:
    features, labels = clusters(200, 2, seed=3)
    assert len(find_label_issues(cross_validated_probabilities(features * 1, labels, 2), labels)) <= 2


def test_a_class_that_one_fold_holds_alone_is_no_error() -> None:
    features, labels = clusters(20, 2)
    labels = np.zeros(20, np.int64)
    labels[0] = 1
    assert np.isfinite(cross_validated_probabilities(features, labels, 2)).all()
