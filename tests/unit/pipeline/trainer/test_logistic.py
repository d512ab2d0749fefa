from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipeline.artifacts.training import HeadParameters
from pipeline.errors import EmptyDataset
from pipeline.tflite.head import softmax
from pipeline.tflite.novelty import unit_rows
from pipeline.trainer.calibration import TrainingSet, fit_temperature
from pipeline.trainer.cross_validation import FOLDS, hold_out
from pipeline.trainer.logistic import CANDIDATES, UNTRIED, fit_logistic
from tests.unit.pipeline.trainer.test_calibration import clusters, training_set

PLAIN = HeadParameters(head_type="logistic", calibration="none")


def reference(features: Any, labels: Any, c: float, **options: Any) -> Any:
    """Fit scikit-learn alone."""
    return LogisticRegression(C=c, max_iter=5000, tol=1e-8, **options).fit(
        unit_rows(features).astype(np.float64), labels
    )


class TestTheHead:
    @pytest.mark.parametrize("classes", [2, 3])
    @pytest.mark.parametrize("weights", ["none", "balanced"])
    def test_answers_as_scikit_learn_does(self, classes: int, weights: str) -> None:
        features, labels = clusters(120, spread=1.5, classes=classes)
        keep = (labels > 0) | (np.arange(120) % 4 == 0)
        features, labels = features[keep], labels[keep]
        parameters = HeadParameters(head_type="logistic", calibration="none", class_weights=weights)
        fit = fit_logistic(training_set(features, labels), parameters, classes)
        options = {"class_weight": "balanced"} if weights == "balanced" else {}
        expected = reference(features, labels, fit.regularization.c, **options)
        fresh, _ = clusters(50, spread=2.0, classes=classes, seed=4)
        assert fit.head.predict(fresh) == pytest.approx(
            expected.predict_proba(unit_rows(fresh).astype(np.float64)), abs=0.01
        )

    def test_is_the_same_every_time(self) -> None:
        pictures = training_set(*clusters(60, spread=1.5))
        first, second = (fit_logistic(pictures, PLAIN, 3).head for _ in range(2))
        assert np.array_equal(first.output_kernel, second.output_kernel)

    def test_needs_a_picture_of_each_class(self) -> None:
        features, labels = clusters(30, spread=1.5, classes=2)
        with pytest.raises(EmptyDataset, match=r"Class 1 has no picture that trains.*type: dense"):
            fit_logistic(training_set(features, labels * 2), PLAIN, 3)


class TestTheChoice:
    def test_is_the_candidate_of_the_least_loss_on_held_out_groups(self) -> None:
        features, labels = clusters(120, spread=2.0)
        groups = {f"p{n}": f"p{n - n % 3}" for n in range(120)}
        pictures = training_set(features, np.repeat(labels[:40], 3), groups)
        found = fit_logistic(pictures, PLAIN, 3).regularization
        assert found.tried == CANDIDATES
        assert found.c == CANDIDATES[int(np.argmin(found.log_losses))]
        folds = hold_out(pictures, seed=PLAIN.seed)
        assert folds is not None
        place, losses = len(CANDIDATES) // 2, []
        for fold in range(FOLDS):
            rows = folds == fold
            model = reference(features[~rows], pictures.labels[~rows], CANDIDATES[place])
            outputs = model.predict_proba(unit_rows(features[rows]).astype(np.float64))
            losses += list(-np.log(outputs[np.arange(rows.sum()), pictures.labels[rows]]))
        assert found.log_losses[place] == pytest.approx(np.mean(losses), rel=0.05)

    def test_regularizes_noise_more_than_what_is_plain(self) -> None:
        plain, noisy = (
            fit_logistic(training_set(*clusters(90, spread=spread)), PLAIN, 3).regularization.c
            for spread in (0.1, 4.0)
        )
        assert noisy < plain

    def test_is_not_made_of_too_few_pictures(self) -> None:
        fit = fit_logistic(training_set(*clusters(12, spread=1.0)), HeadParameters(head_type="logistic"), 3)
        assert (fit.regularization.c, fit.regularization.tried) == (UNTRIED, ())
        assert fit.calibration is None
        assert fit.folds is None
        assert "too few pictures" in fit.regularization.line

    def test_copies_of_a_picture_never_train_the_head_that_judges_it(self) -> None:
        random = np.random.default_rng(0)
        base, labels = random.normal(size=(40, 30)).astype(np.float32), random.integers(0, 2, 40)
        altered = TrainingSet(
            features=np.concatenate([base, base + 0.01]),
            labels=np.concatenate([labels, labels]),
            ids=[str(number) for number in range(40)],
            groups={},
        )
        folds = fit_logistic(altered, PLAIN, 2).folds
        assert folds is not None
        found = folds.record
        assert found.pictures == 40
        assert found.accuracy < 0.75  # labels are random


class TestCalibration:
    def test_divides_the_logits_by_what_fits_held_out_pictures(self) -> None:
        pictures = training_set(*clusters(150, spread=2.5))
        plain = fit_logistic(pictures, PLAIN, 3)
        warm = fit_logistic(pictures, HeadParameters(head_type="logistic"), 3)
        assert plain.calibration is None
        assert warm.calibration is not None
        assert warm.calibration.log_loss_after <= warm.calibration.log_loss_before
        assert warm.calibration.pictures == 150
        logits = plain.head.score(pictures.features)
        assert warm.head.predict(pictures.features) == pytest.approx(
            softmax(logits / np.float32(warm.calibration.temperature)), abs=1e-5
        )
        assert fit_temperature(logits, pictures.labels) != pytest.approx(warm.calibration.temperature)
