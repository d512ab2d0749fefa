from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from pipeline.artifacts.metrics import Metrics
from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.answers import Answers, collect_answers
from pipeline.evaluate.measure import measure
from pipeline.evaluate.metrics import wilson_interval
from pipeline.evaluate.predictions import Prediction
from pipeline.evaluate.scores import (
    NUM_BINS,
    picture_losses,
    precision_recall_area,
    roc_area,
    top_k_accuracy,
)

CLASSES = ("brick", "grass", "gravel")
CASES = 200
NEAR = 1e-9


def prediction(key: str, outputs: tuple[float, ...], label: str | None = None) -> Prediction:
    return Prediction(key=key, outputs=outputs, label=label or CLASSES[outputs.index(max(outputs))])


def compute_metrics(
    predictions: dict[str, Prediction], labels: dict[str, str], classes: tuple[str, ...]
) -> Metrics:
    return measure(collect_answers(predictions, labels, model_classes=classes, classes=classes))


def answers_of(
    truth: list[int], probabilities: list[list[float]], groups: list[int] | None = None
) -> Answers:
    table = np.array(probabilities, dtype=float)
    return Answers(
        keys=tuple(f"k{index}" for index in range(len(truth))),
        classes=tuple(f"c{index}" for index in range(table.shape[1])),
        truth=np.array(truth),
        probabilities=table,
        predicted=table.argmax(axis=1),
        groups=np.array(groups if groups is not None else range(len(truth))),
    )


@st.composite
def cases(draw: st.DrawFn) -> Answers:
    """Tests of 1 to 40 pictures and 2 to 6 classes: with classes nobody saw, one-sided ones, ties."""
    classes, pictures = draw(st.integers(2, 6)), draw(st.integers(1, 40))
    tested = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    truth = draw(st.lists(st.sampled_from(tested), min_size=pictures, max_size=pictures))
    weight = st.integers(1, 5) if draw(st.booleans()) else st.floats(1e-3, 1.0)
    row = st.lists(weight, min_size=classes, max_size=classes)
    table = np.array(draw(st.lists(row, min_size=pictures, max_size=pictures)), dtype=float)
    return answers_of(truth, (table / table.sum(axis=1, keepdims=True)).tolist())


class TestAgainstScikitLearn:
    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def test_every_metric_is_the_same(self, answers: Answers) -> None:
        found, truth, said = measure(answers), answers.truth, answers.predicted
        everything = list(range(len(answers.classes)))
        present = np.unique(truth)
        near = {"abs": NEAR, "rel": NEAR}
        assert found.accuracy == pytest.approx(sk.accuracy_score(truth, said), **near)
        losses = sk.log_loss(truth, answers.probabilities, labels=everything)
        assert found.loss == pytest.approx(losses, **near)
        matrix = [[found.confusion[row][column] for column in answers.classes] for row in answers.classes]
        assert matrix == sk.confusion_matrix(truth, said, labels=everything).tolist()
        macro = sk.precision_recall_fscore_support(
            truth, said, labels=present, average="macro", zero_division=0
        )
        for name, expected in zip(("macro_precision", "macro_recall", "macro_f1"), macro, strict=False):
            assert found.value_of(name) == pytest.approx(expected, **near), name
        weighted = sk.f1_score(truth, said, labels=present, average="weighted", zero_division=0)
        assert found.value_of("weighted_f1") == pytest.approx(weighted, **near)
        onehot = np.eye(len(everything))[truth]
        brier = ((answers.probabilities - onehot) ** 2).sum(axis=1).mean()
        assert found.value_of("brier") == pytest.approx(brier, **near)
        self.check_classes(found, answers)
        self.check_calibration(found, answers)

    def check_classes(self, found: Metrics, answers: Answers) -> None:
        scores = sk.precision_recall_fscore_support(
            answers.truth, answers.predicted, labels=range(len(answers.classes)), zero_division=np.nan
        )
        rocs = []
        for index, label in enumerate(answers.classes):
            row = found.per_class[label]
            for name, expected in zip(("precision", "recall", "f1", "support"), scores, strict=True):
                measured = getattr(row, name)
                value = math.nan if measured is None else measured
                assert value == pytest.approx(expected[index], abs=NEAR, nan_ok=True), (label, name)
            positive, score = answers.truth == index, answers.probabilities[:, index]
            if 0 < positive.sum() < len(positive):
                rocs.append(sk.roc_auc_score(positive, score))
                assert row.roc_auc == pytest.approx(rocs[-1], abs=NEAR)
                area = sk.average_precision_score(positive, score)
                assert row.pr_auc == pytest.approx(area, abs=NEAR)
            else:
                assert row.roc_auc is None
            if row.support:
                hits = round(row.recall * row.support)
                low, high = binomtest(hits, row.support).proportion_ci(method="wilson")
                assert row.recall_ci95 == pytest.approx([low, high], abs=NEAR)
        expected_mean = float(np.mean(rocs)) if rocs else None
        assert found.value_of("roc_auc") == pytest.approx(expected_mean, abs=NEAR)

    def check_calibration(self, found: Metrics, answers: Answers) -> None:
        right, sure = calibration_curve(answers.correct, answers.confidence, n_bins=NUM_BINS)
        assert [row.accuracy for row in found.reliability] == pytest.approx(right.tolist(), abs=NEAR)
        assert [row.confidence for row in found.reliability] == pytest.approx(sure.tolist(), abs=NEAR)
        counts = np.array([row.pictures for row in found.reliability])
        assert counts.sum() == len(answers.truth)
        expected = (counts * abs(right - sure)).sum() / counts.sum()
        assert found.value_of("ece") == pytest.approx(expected, abs=NEAR)

    @settings(max_examples=CASES, deadline=None)
    @given(cases(), st.integers(1, 5))
    def test_top_k_is_the_same_where_no_probabilities_tie(self, answers: Answers, k: int) -> None:
        classes = len(answers.classes)
        ties = any(len(np.unique(row)) < classes for row in answers.probabilities)
        if ties or classes == 2 or k >= classes:
            return
        expected = sk.top_k_accuracy_score(
            answers.truth, answers.probabilities, k=k, labels=list(range(classes))
        )
        assert top_k_accuracy(answers.truth, answers.probabilities, k) == pytest.approx(expected, abs=NEAR)

    @settings(max_examples=CASES, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=60))
    def test_areas_are_the_same_with_many_ties(self, rows: list[tuple[bool, int]]) -> None:
        positive, scores = np.array([row[0] for row in rows]), np.array([row[1] / 8 for row in rows])
        if 0 < positive.sum() < len(rows):
            assert roc_area(positive, scores) == pytest.approx(sk.roc_auc_score(positive, scores), abs=NEAR)
        if positive.any():
            area = sk.average_precision_score(positive, scores)
            assert precision_recall_area(positive, scores) == pytest.approx(area, abs=NEAR)

    @settings(max_examples=CASES, deadline=None)
    @given(st.integers(1, 5000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
    def test_wilson_interval_equals_scipys(self, case: tuple[int, int]) -> None:
        expected = binomtest(*case).proportion_ci(confidence_level=0.95, method="wilson")
        assert wilson_interval(*case) == pytest.approx((expected.low, expected.high), abs=NEAR)

    def test_brier_score_is_scikit_learns(self) -> None:
        answers = answers_of([0, 1, 2, 2], [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0, 0, 1.0]])
        expected = sk.brier_score_loss(answers.truth, answers.probabilities, scale_by_half=False)
        assert measure(answers).value_of("brier") == pytest.approx(expected, abs=NEAR)


class TestDegenerateTests:
    def test_interval_of_nothing_is_an_error(self) -> None:
        with pytest.raises(EvaluationError, match="at least one"):
            wilson_interval(0, 0)

    def test_no_picture_is_an_error(self) -> None:
        with pytest.raises(EvaluationError, match="no test picture"):
            compute_metrics({}, {}, CLASSES)

    def test_one_picture_has_no_bootstrap_interval_and_no_area(self) -> None:
        found = measure(answers_of([0], [[0.9, 0.1]]))
        assert (found.accuracy, found.test_pictures) == (1.0, 1)
        assert found.interval_of("macro_f1") is None
        assert found.value_of("roc_auc") is None
        assert found.per_class["c0"].f1_ci95 is None
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False))

    def test_one_group_of_many_pictures_has_no_bootstrap_interval(self) -> None:
        found = measure(answers_of([0, 1, 0], [[0.9, 0.1]] * 3, groups=[0, 0, 0]))
        assert found.interval_of("loss") is None

    def test_class_without_pictures_is_undefined_and_takes_no_part_in_means(self) -> None:
        found = measure(answers_of([0, 0, 1], [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
        empty = found.per_class["c2"]
        assert (empty.support, empty.recall, empty.precision, empty.f1) == (0, None, None, None)
        assert found.value_of("macro_f1") == 1.0

    def test_class_that_is_never_said_counts_as_zero_in_means(self) -> None:
        found = measure(answers_of([0, 1], [[0.8, 0.2], [0.8, 0.2]]))
        assert found.per_class["c1"].precision is None
        assert found.per_class["c1"].f1 == 0.0
        assert found.value_of("macro_precision") == pytest.approx(0.25)

    def test_group_bootstrap_is_wider_than_that_of_pictures(self) -> None:
        truth = [0, 1] * 100
        table = [[0.9, 0.1] if index // 20 % 2 else [0.1, 0.9] for index in range(200)]
        alone = measure(answers_of(truth, table)).interval_of("loss")
        together = measure(answers_of(truth, table, [index // 20 for index in range(200)])).interval_of(
            "loss"
        )
        assert alone is not None
        assert together is not None
        same = measure(answers_of(truth, table)).interval_of("loss")
        assert same == alone, "the draws are seeded"
        one_sided = [[0.9, 0.1] if index // 20 % 2 else [0.4, 0.6] for index in range(200)]
        narrow = measure(answers_of([0] * 200, one_sided)).interval_of("loss")
        wide = measure(answers_of([0] * 200, one_sided, [index // 20 for index in range(200)]))
        found = wide.interval_of("loss")
        assert narrow is not None
        assert found is not None
        assert found[1] - found[0] > 2 * (narrow[1] - narrow[0])


class TestCoverage:
    def test_curve_tells_what_withholding_answers_buys(self) -> None:
        found = measure(answers_of([0, 0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]))
        rows = {row.threshold: row for row in found.coverage}
        assert (rows[0.0].coverage, rows[0.0].accuracy) == (1.0, 0.75)
        assert (rows[0.65].coverage, rows[0.65].accuracy) == (0.75, 1.0)
        assert (rows[0.99].coverage, rows[0.99].accuracy) == (0.0, None)


def test_loss_is_clipped_as_keras_clips() -> None:
    table = np.array([[1.0, 0.0], [1.0, 0.0]])
    losses = picture_losses(np.array([1, 0]), table)
    assert losses.tolist() == pytest.approx([-math.log(1e-7), -math.log(1 - 1e-7)])


def test_outputs_that_do_not_sum_to_one_are_normalised() -> None:
    found = compute_metrics({"a": prediction("a", (2.0, 2.0, 0.0))}, {"a": "brick"}, CLASSES)
    assert found.loss == pytest.approx(math.log(2))


def test_join_order_does_not_matter() -> None:
    labels = {"a": "brick", "b": "grass"}
    predictions = {"b": prediction("b", (0.1, 0.8, 0.1)), "a": prediction("a", (0.7, 0.2, 0.1))}
    assert compute_metrics(predictions, labels, CLASSES).accuracy == 1.0


def test_an_answer_without_a_label_counts_by_its_outputs() -> None:
    silent = Prediction(key="a", outputs=(0.4, 0.3, 0.3), label=None)
    assert compute_metrics({"a": silent}, {"a": "brick"}, CLASSES).accuracy == 1.0


def test_classes_are_joined_by_name_whatever_their_order() -> None:
    labels = {"a": "brick", "b": "grass"}
    predictions: dict[str, Any] = {
        "a": Prediction(key="a", outputs=(0.2, 0.7, 0.1), label="brick"),
        "b": Prediction(key="b", outputs=(0.2, 0.1, 0.7), label="moss"),
    }
    answers = collect_answers(predictions, labels, model_classes=("gravel", "brick", "moss"), classes=CLASSES)
    assert answers.classes == ("brick", "grass", "gravel", "moss")
    assert answers.correct.tolist() == [True, False]
    assert answers.probabilities[0].tolist() == pytest.approx([0.7, 0.0, 0.2, 0.1])


def test_model_of_another_width_is_a_label_mismatch() -> None:
    with pytest.raises(LabelMapMismatch, match="2 outputs, its list of classes has 3 classes"):
        compute_metrics({"a": prediction("a", (0.4, 0.6))}, {"a": "brick"}, CLASSES)


def test_model_with_other_label_order_is_a_label_mismatch() -> None:
    wrong = prediction("a", (0.9, 0.1, 0.0), label="gravel")
    with pytest.raises(LabelMapMismatch, match="'gravel' where .* make it 'brick'"):
        compute_metrics({"a": wrong}, {"a": "brick"}, CLASSES)


@pytest.mark.parametrize("outputs", [(math.nan, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, -0.5, 0.5)])
def test_outputs_that_are_no_probabilities_are_an_error(outputs: tuple[float, ...]) -> None:
    bad = Prediction(key="a", outputs=outputs, label="brick")
    with pytest.raises(EvaluationError, match="not numbers"):
        compute_metrics({"a": bad}, {"a": "brick"}, CLASSES)


def test_metrics_survive_json() -> None:
    metrics = compute_metrics({"a": prediction("a", (0.7, 0.2, 0.1))}, {"a": "brick"}, CLASSES)
    assert Metrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics


def test_metrics_from_before_there_were_scores_are_read() -> None:
    old = {"accuracy": 1.0, "accuracy_ci95": [0.5, 1], "loss": 0.1, "test_pictures": 2, "confusion": {}}
    assert Metrics.from_dict(old).value_of("macro_f1") is None
