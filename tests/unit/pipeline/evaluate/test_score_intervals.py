from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluate.answers import Answers
from pipeline.evaluate.measure import measure
from pipeline.evaluate.score_intervals import class_f1_interval, share_interval


def answers_of(truth: list[int], predicted: list[int], groups: list[int] | None = None) -> Answers:
    probabilities = np.eye(max(max(truth), max(predicted), 1) + 1)[predicted] * 0.98 + 0.005
    return Answers(
        keys=tuple(map(str, range(len(truth)))),
        classes=tuple(f"c{index}" for index in range(probabilities.shape[1])),
        truth=np.array(truth),
        probabilities=probabilities / probabilities.sum(1, keepdims=True),
        predicted=np.array(predicted),
        groups=np.arange(len(truth)) if groups is None else np.array(groups),
    )


class TestWithoutAMistake:
    PERFECT = answers_of([0, 1] * 8, [0, 1] * 8)

    def test_no_interval_of_sixteen_pictures_is_a_point(self) -> None:
        metrics = measure(self.PERFECT)
        for name in ("accuracy", "macro_f1", "weighted_f1"):
            low, high = metrics.interval_of(name) or (1.0, 1.0)
            assert 0.75 < low < 0.85, name
            assert high == 1.0
        for row in metrics.per_class.values():
            for name in ("precision", "recall", "f1"):
                low, high = row.interval_of(name) or (1.0, 1.0)
                assert 0.6 < low < 0.85, name
                assert high == 1.0

    def test_a_small_class_bounds_the_macro_f1(self) -> None:
        metrics = measure(answers_of([0] * 90 + [1] * 4, [0] * 90 + [1] * 4))
        macro, weighted = metrics.interval_of("macro_f1"), metrics.interval_of("weighted_f1")
        assert macro is not None
        assert weighted is not None
        assert macro[0] < 0.85 < 0.95 < weighted[0]


class TestDesignEffect:
    def test_copies_do_not_count_as_pictures(self) -> None:
        right = np.array([True] * 30 + [False] * 10)
        alone = share_interval(right, np.arange(40))
        copied = share_interval(np.repeat(right, 5), np.repeat(np.arange(40), 5))
        assert alone is not None
        assert copied == pytest.approx(alone, abs=1e-6)

    def test_single_pictures_have_wilsons_interval(self) -> None:
        right = np.array([True] * 30 + [False] * 10)
        expected = binomtest(30, 40).proportion_ci(method="wilson")
        assert share_interval(right, np.arange(40)) == pytest.approx((expected.low, expected.high), abs=1e-9)

    def test_nothing_has_no_interval(self) -> None:
        assert share_interval(np.array([], bool), np.array([], int)) is None


class TestCoverage:
    """Simulated: how often the interval holds the F1 of the whole population."""

    @pytest.mark.parametrize(("pictures", "right"), [(16, 0.97), (40, 0.97), (40, 0.85), (100, 0.97)])
    def test_the_f1_of_a_class_is_within_nine_times_of_ten_and_more(
        self, pictures: int, right: float
    ) -> None:
        random = np.random.default_rng(pictures)
        inside = 0
        for _ in range(400):
            truth = random.integers(0, 2, pictures)
            predicted = np.where(random.random(pictures) < right, truth, 1 - truth)
            bounds = class_f1_interval(answers_of(truth.tolist(), predicted.tolist()), 1)
            inside += bounds is None or bounds[0] <= right <= bounds[1]
        assert inside / 400 >= 0.92
