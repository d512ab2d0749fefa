from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.compare.estimates import JudgedOption, estimate, estimate_scores, judge, selection_optimism

FOLDS = np.arange(100) % 5


def judged(losses: Any) -> JudgedOption:
    return JudgedOption(correct=losses < 0.7, confidence=np.exp(-losses), losses=losses)


def noisy_options(random: np.random.Generator, number: int, pictures: int) -> list[JudgedOption]:
    """Make options that are equally good, of which one is the best by chance."""
    shared = random.normal(0, 0.3, pictures)
    return [judged(np.exp(shared + random.normal(0, 0.3, pictures) - 1)) for _ in range(number)]


class TestEstimate:
    def test_the_error_is_that_of_the_folds_means_corrected_for_shared_training_pictures(self) -> None:
        values = np.random.default_rng(0).normal(0, 1, 100)
        made = estimate(lambda rows: float(values[rows].mean()), FOLDS)
        means = [values[FOLDS == fold].mean() for fold in range(5)]
        variance = np.var(means, ddof=1)
        assert made.value == pytest.approx(values.mean())
        assert made.error == pytest.approx((variance * (1 / 5 + 1 / 4)) ** 0.5)  # Nadeau and Bengio

    def test_paired_differences_have_smaller_errors_than_the_figures(self) -> None:
        best, other = noisy_options(np.random.default_rng(1), 2, 100)
        shared = np.random.default_rng(2).normal(0, 1, 5)[FOLDS]
        one, two = (judged(option.losses + shared) for option in (best, other))
        scores = estimate_scores(two, one, FOLDS)
        assert scores.behind.error < scores.log_loss.error / 2
        assert scores.behind.value == pytest.approx(two.log_loss - one.log_loss)

    def test_scores_are_those_of_all_answers_together(self) -> None:
        labels = np.array([0, 1, 1, 0] * 5)
        outputs = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.8, 0.2]] * 5, np.float32)
        option = judge(labels, outputs)
        scores = estimate_scores(option, option, np.arange(20) % 5)
        assert scores.accuracy.value == 0.75
        assert scores.log_loss.value == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.8]).mean())
        assert scores.ece.value == pytest.approx(np.mean([0.1, 0.4, 0.7, 0.2]))  # each in a bin of its own
        assert (scores.behind.value, scores.behind.error) == (0, 0)


class TestOptimism:
    def test_it_is_none_for_one_option_and_for_the_best_of_every_fold(self) -> None:
        random = np.random.default_rng(0)
        best = judged(random.uniform(0.1, 0.2, 100))
        assert selection_optimism([best], FOLDS) == 0
        assert selection_optimism([judged(best.losses + 1), best], FOLDS) == 0

    @pytest.mark.parametrize("number", [2, 20])
    def test_it_is_about_what_choosing_among_equal_options_gains(self, number: int) -> None:
        random, gains, estimates = np.random.default_rng(3), [], []
        for _ in range(100):
            options = noisy_options(random, number, 100)
            losses = [option.log_loss for option in options]
            gains.append(np.mean(losses) - min(losses))
            estimates.append(selection_optimism(options, FOLDS))
        assert np.mean(gains) > 0
        assert np.mean(estimates) == pytest.approx(np.mean(gains), rel=0.4)
