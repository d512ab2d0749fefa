from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.training import HeadParameters
from pipeline.tflite.head import softmax
from pipeline.trainer import calibration as module
from pipeline.trainer.calibration import (
    FOLDS,
    LIMITS,
    TrainingSet,
    assign_folds,
    calibrate,
    fit_temperature,
)
from pipeline.trainer.head import train_head

PARAMETERS = HeadParameters(units=64, epochs=30, learning_rate=0.01)


def clusters(num: int, *, spread: float, seed: int = 0, classes: int = 3) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = np.arange(num) % classes
    features = random.normal(0, spread, (num, 12)) + 3 * np.eye(12)[labels]
    return features.astype(np.float32), labels


def training_set(features: Any, labels: Any, groups: dict[str, str] | None = None) -> TrainingSet:
    ids = tuple(f"p{number}" for number in range(len(labels)))
    return TrainingSet(features=features, labels=labels, ids=ids, groups=groups or {})


def log_loss(outputs: Any, labels: Any) -> float:
    return float(-np.log(np.maximum(outputs[np.arange(len(labels)), labels], 1e-7)).mean())


class TestTemperature:
    @pytest.mark.parametrize("true", [0.7, 1.0, 2.5, 6.0])
    def test_it_is_the_one_that_the_labels_were_drawn_by(self, true: float) -> None:
        random = np.random.default_rng(1)
        logits = random.normal(0, 3, (20_000, 4)).astype(np.float32)
        cumulated = softmax(logits / np.float32(true)).cumsum(1)
        labels = (random.random((20_000, 1)) > cumulated).sum(1).clip(0, 3)
        assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)

    def test_no_other_temperature_has_a_smaller_loss(self) -> None:
        random = np.random.default_rng(2)
        labels = random.integers(0, 3, 50)
        logits = (random.normal(0, 4, (50, 3)) + 3 * np.eye(3)[labels]).astype(np.float32)
        best = fit_temperature(logits, labels)
        assert LIMITS[0] < best < LIMITS[1]
        targets = np.full((50, 3), 0.5 / 51 / 2)
        targets[np.arange(50), labels] = 1 - 0.5 / 51
        losses = [
            -(targets * np.log(softmax(logits / np.float32(t)))).sum() for t in (best / 1.1, best, best * 1.1)
        ]
        assert min(losses) == losses[1]

    def test_answers_without_a_mistake_are_not_made_certain(self) -> None:
        logits = np.array([[4, 0], [0, 4]], np.float32)
        temperature = fit_temperature(logits, np.array([0, 1]))
        assert softmax(logits / np.float32(temperature)).max(1) == pytest.approx(1 - 0.5 / 3, abs=1e-4)
        assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(LIMITS[1])


class TestFolds:
    def test_a_group_is_in_one_fold_and_each_fold_leaves_every_class(self) -> None:
        ids = [f"p{number}" for number in range(90)]
        groups = {id: f"p{number - number % 6}" for number, id in enumerate(ids)}
        labels = np.arange(90) // 30
        folds = assign_folds(ids, labels, groups, seed=0)
        for start in range(0, 90, 6):
            assert len(set(folds[start : start + 6])) == 1
        for fold in range(FOLDS):
            assert set(labels[folds != fold]) == {0, 1, 2}
        assert set(folds) == set(range(FOLDS))

    def test_a_class_of_one_group_always_trains(self) -> None:
        folds = assign_folds(["a", "b", "c", "d"], np.array([0, 0, 1, 1]), {"b": "a"}, seed=0)
        assert folds[:2].tolist() == [-1, -1]
        assert sorted(folds[2:]) == [0, 1]

    def test_the_seed_deals(self) -> None:
        ids, labels = [str(number) for number in range(60)], np.zeros(60, int)
        deals = [assign_folds(ids, labels, {}, seed=seed).tolist() for seed in (0, 0, 1)]
        assert deals[0] == deals[1] != deals[2]


class TestCalibration:
    def test_an_overconfident_head_answers_with_the_same_labels_and_less_loss(self) -> None:
        features, labels = clusters(120, spread=2.2)
        head, _ = train_head(features, labels, 3, PARAMETERS)
        calibrated, record = calibrate(head, training_set(features, labels), PARAMETERS, epochs=30)
        assert record is not None
        assert record.temperature > 1.5
        assert record.pictures == 120
        assert record.log_loss_after < record.log_loss_before
        new, truth = clusters(3000, spread=2.2, seed=9)
        before, after = head.predict(new), calibrated.predict(new)
        assert np.array_equal(before.argmax(1), after.argmax(1))
        assert log_loss(after, truth) < 0.8 * log_loss(before, truth)
        assert after == pytest.approx(
            softmax(head.score(head.hide(new)) / np.float32(record.temperature)), abs=1e-5
        )

    def test_the_same_pictures_give_the_same_temperature(self) -> None:
        features, labels = clusters(60, spread=1.5)
        head, _ = train_head(features, labels, 3, PARAMETERS)
        runs = [calibrate(head, training_set(features, labels), PARAMETERS, epochs=9)[1] for _ in range(2)]
        assert runs[0] == runs[1]

    def test_too_few_pictures_leave_the_head_as_it_is(self) -> None:
        features, labels = clusters(18, spread=1.0)
        head, _ = train_head(features, labels, 3, PARAMETERS)
        assert calibrate(head, training_set(features, labels), PARAMETERS, epochs=5) == (head, None)

    def test_no_head_answers_for_a_picture_that_it_or_a_copy_of_it_trained(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        features, labels = clusters(30, spread=1.0)
        features[:, 0] = np.arange(30)
        seen: list[set[int]] = []

        def spy(trained: Any, targets: Any, *rest: Any) -> Any:
            assert np.array_equal(targets, labels[trained[:, 0].astype(int)])
            seen.append(set(trained[:, 0].astype(int).tolist()))
            return train_head(trained, targets, *rest)

        monkeypatch.setattr(module, "train_head", spy)
        head, _ = train_head(features, labels, 3, PARAMETERS)
        both = training_set(np.concatenate([features, features]), np.concatenate([labels, labels]))
        pictures = TrainingSet(
            features=both.features, labels=both.labels, ids=both.ids[:30], groups=both.groups
        )
        calibrate(head, pictures, PARAMETERS, epochs=2)
        folds = assign_folds(pictures.ids, labels, {}, seed=PARAMETERS.seed)
        assert seen == [set(np.flatnonzero(folds != fold).tolist()) for fold in range(FOLDS)]
