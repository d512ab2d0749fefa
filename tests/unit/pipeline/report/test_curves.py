from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import auc, log_loss, precision_recall_curve, roc_auc_score

from pipeline.evaluate.scores import reliability_bins
from pipeline.report.curves import MAX_CLASSES, class_curves, fit_temperature, uncalibrated_reliability
from pipeline.report.inputs import PredictionRow
from pipeline.report.ranking import Answer

CLASSES = ("ant", "bee", "cat")


def answer_of(key: str, label: str, outputs: list[float], predicted: str = "") -> Answer:
    row = PredictionRow(key=key, outputs=tuple(outputs))
    return Answer(key=key, label=label, predicted=predicted, score=0.0, loss=0.0, row=row)


def answers_of(outputs: np.ndarray, truth: np.ndarray) -> list[Answer]:
    return [
        answer_of(str(number), CLASSES[own], row, CLASSES[row.index(max(row))])
        for number, (row, own) in enumerate(zip(outputs.tolist(), truth.tolist(), strict=True))
    ]


def drawn(scale: float, count: int = 400, decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Outputs whose logits are `scale` times what they should be, and labels drawn as they should be."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 1.5, (count, 3))
    fair = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([random.choice(3, p=row) for row in fair])
    scaled = np.exp(scale * logits)
    return np.round(scaled / scaled.sum(1, keepdims=True), decimals), truth


class TestCurves:
    @pytest.mark.parametrize("decimals", [9, 1])
    def test_areas_are_scikit_learns_with_and_without_ties(self, decimals: int) -> None:
        outputs, truth = drawn(1.0, decimals=decimals)
        precision, rates = class_curves(answers_of(outputs, truth), CLASSES)
        for index, label in enumerate(CLASSES):
            x, y = zip(*rates[label], strict=True)
            assert auc(x, y) == pytest.approx(roc_auc_score(truth == index, outputs[:, index]), abs=1e-12)
            theirs, recall, _ = precision_recall_curve(truth == index, outputs[:, index])
            ours = dict(precision[label][1:])
            assert all(
                max(p for p, r in zip(theirs, recall, strict=True) if r == at) >= value - 1e-12
                for at, value in ours.items()
            )
            assert set(ours.values()) <= {float(p) for p in theirs}

    def test_a_class_without_pictures_has_none(self) -> None:
        outputs, _ = drawn(1.0, count=4)
        precision, rates = class_curves(answers_of(outputs, np.zeros(4, int)), CLASSES)
        assert set(precision) == {"ant"}
        assert rates == {}

    def test_only_as_many_as_can_be_told_apart_are_drawn(self) -> None:
        names = [f"c{number}" for number in range(20)]
        rows = [answer_of(name, name, [0.05] * 20) for name in names]
        assert list(class_curves(rows, names)[0]) == names[:MAX_CLASSES]


class TestUncalibrated:
    def test_the_bins_are_those_of_the_logits_before_they_were_divided(self) -> None:
        calibrated, truth = drawn(0.5)
        raw, _ = drawn(1.0)
        expected = reliability_bins(raw.argmax(1) == truth, raw.max(1))
        bins = uncalibrated_reliability(answers_of(calibrated, truth), 2.0)
        for one, other in zip(bins, expected, strict=True):
            assert asdict(one) == pytest.approx(asdict(other), abs=1e-6)

    def test_without_answers_there_are_none(self) -> None:
        assert uncalibrated_reliability([], 2.0) == ()


class TestTemperature:
    @pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
    def test_undoes_what_made_the_model_too_sure_or_unsure(self, scale: float) -> None:
        outputs, truth = drawn(scale, count=2000)
        found = fit_temperature(answers_of(outputs, truth), CLASSES)
        assert found == pytest.approx(scale, rel=0.1)

        def loss(temperature: float) -> float:
            warm = outputs ** (1 / temperature)
            return float(log_loss(truth, warm / warm.sum(1, keepdims=True)))

        assert found == pytest.approx(minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x, rel=1e-3)

    def test_is_unknown_where_the_model_is_always_right(self) -> None:
        assert fit_temperature(answers_of(np.eye(3) * 0.7 + 0.1, np.arange(3)), CLASSES) is None
