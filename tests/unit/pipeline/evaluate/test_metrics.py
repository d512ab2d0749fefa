from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.metrics import Metrics, compute_metrics, negative_log_likelihood, wilson_interval
from pipeline.evaluate.predictions import Prediction

CLASSES = ("brick", "grass", "gravel")


def prediction(key: str, outputs: tuple[float, ...], label: str | None = None) -> Prediction:
    return Prediction(key=key, outputs=outputs, label=label or CLASSES[outputs.index(max(outputs))])


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 40), (40, 40), (37, 40), (195, 200), (1, 3)])
def test_wilson_interval_equals_scipys(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_nothing_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="at least one"):
        wilson_interval(0, 0)


def test_metrics_equal_scikit_learns() -> None:
    random = np.random.default_rng(7)
    outputs = random.dirichlet([0.6, 0.6, 0.6], size=60)
    truth = random.integers(0, 3, size=60)
    labels = {f"k{index}": CLASSES[value] for index, value in enumerate(truth)}
    predictions = {
        key: prediction(key, tuple(map(float, row))) for key, row in zip(labels, outputs, strict=True)
    }
    metrics = compute_metrics(predictions, labels, CLASSES)
    assert metrics.accuracy == accuracy_score(truth, outputs.argmax(axis=1))
    assert metrics.loss == pytest.approx(log_loss(truth, outputs, labels=[0, 1, 2]), rel=1e-9)
    matrix = [[metrics.confusion[row][column] for column in CLASSES] for row in CLASSES]
    assert matrix == confusion_matrix(truth, outputs.argmax(axis=1)).tolist()
    assert metrics.test_pictures == 60
    assert metrics.accuracy_ci95 == wilson_interval(round(metrics.accuracy * 60), 60)


def test_loss_is_clipped_as_keras_clips() -> None:
    assert negative_log_likelihood((1.0, 0.0), 1) == pytest.approx(-math.log(1e-7))
    assert negative_log_likelihood((1.0, 0.0), 0) == pytest.approx(1e-7, rel=1e-3)


def test_outputs_that_do_not_sum_to_one_are_normalised() -> None:
    assert negative_log_likelihood((2.0, 2.0), 0) == pytest.approx(math.log(2))


def test_join_order_does_not_matter() -> None:
    labels = {"a": "brick", "b": "grass"}
    predictions = {"b": prediction("b", (0.1, 0.8, 0.1)), "a": prediction("a", (0.7, 0.2, 0.1))}
    assert compute_metrics(predictions, labels, CLASSES).accuracy == 1.0


def test_model_of_another_width_is_a_label_mismatch() -> None:
    with pytest.raises(LabelMapMismatch, match="2 outputs, the dataset 3 classes"):
        compute_metrics({"a": prediction("a", (0.4, 0.6))}, {"a": "brick"}, CLASSES)


def test_model_with_other_label_order_is_a_label_mismatch() -> None:
    wrong = prediction("a", (0.9, 0.1, 0.0), label="gravel")
    with pytest.raises(LabelMapMismatch, match="'gravel' where .* make it 'brick'"):
        compute_metrics({"a": wrong}, {"a": "brick"}, CLASSES)


def test_outputs_that_are_no_numbers_are_an_error() -> None:
    bad = Prediction(key="a", outputs=(math.nan, 0.5, 0.5), label="brick")
    with pytest.raises(EvaluationError, match="not numbers"):
        compute_metrics({"a": bad}, {"a": "brick"}, CLASSES)


def test_metrics_survive_json() -> None:
    metrics = compute_metrics({"a": prediction("a", (0.7, 0.2, 0.1))}, {"a": "brick"}, CLASSES)
    assert Metrics.from_dict(metrics.to_dict()) == metrics
