from __future__ import annotations

import numpy as np
import pytest

from pipeline.artifacts.training import HeadParameters
from pipeline.tflite.head import softmax
from pipeline.trainer import cross_validation as module
from pipeline.trainer.cross_validation import FOLDS, MAX_UNITS, FoldOutputs, cross_validate
from tests.unit.pipeline.trainer.test_calibration import clusters, training_set

PARAMETERS = HeadParameters(units=16, epochs=30, learning_rate=0.01)


class TestCrossValidation:
    def test_its_mean_is_the_accuracy_of_a_head_on_new_pictures(self) -> None:
        features, labels = clusters(600, spread=2.0)
        folds = cross_validate(training_set(features, labels), PARAMETERS, num_classes=3, epochs=30)
        assert folds is not None
        found = folds.record
        fresh, truth = clusters(3000, spread=2.0, seed=9)
        head, _ = module.train_head(features, labels, 3, PARAMETERS)
        assert found.accuracy == pytest.approx((head.predict(fresh).argmax(1) == truth).mean(), abs=0.05)
        assert 0 < found.spread < 0.08
        assert (found.folds, found.pictures, found.units) == (FOLDS, 600, 16)

    def test_copies_of_a_picture_never_train_the_head_that_judges_it(self) -> None:
        random = np.random.default_rng(0)
        base = random.normal(size=(40, 30)).astype(np.float32)
        labels = random.integers(0, 2, 40)
        features, groups = np.repeat(base, 4, axis=0), {f"p{n}": f"p{n - n % 4}" for n in range(160)}
        grouped = training_set(features, np.repeat(labels, 4), groups)
        torn = training_set(features, np.repeat(labels, 4))
        options = {"num_classes": 2, "epochs": 30}
        honest, leaky = (cross_validate(each, PARAMETERS, **options) for each in (grouped, torn))
        assert honest is not None
        assert leaky is not None
        assert leaky.record.accuracy > 0.95
        assert honest.record.accuracy < 0.75  # labels are random

    def test_altered_copies_train_and_are_not_judged(self) -> None:
        features, labels = clusters(60, spread=1.0)
        pictures = training_set(features, labels)
        doubled = type(pictures)(
            features=np.concatenate([features, features]),
            labels=np.concatenate([labels, labels]),
            ids=pictures.ids,
            groups={},
        )
        found = cross_validate(doubled, PARAMETERS, num_classes=3, epochs=5)
        assert found is not None
        assert found.record.pictures == 60

    def test_few_pictures_are_not_judged(self) -> None:
        features, labels = clusters(12, spread=1.0)
        assert cross_validate(training_set(features, labels), PARAMETERS, num_classes=3, epochs=5) is None

    def test_its_heads_are_small_and_train_to_the_epoch_that_was_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        train = module.train_head

        def note(features: np.ndarray, labels: np.ndarray, num: int, parameters: HeadParameters) -> object:
            seen.append((parameters.units, parameters.epochs))
            return train(features, labels, num, parameters)

        monkeypatch.setattr(module, "train_head", note)
        features, labels = clusters(60, spread=1.0)
        cross_validate(training_set(features, labels), HeadParameters(), num_classes=3, epochs=7)
        assert seen == [(MAX_UNITS, 7)] * FOLDS


class TestAnswers:
    """What is kept for thresholds."""

    FOLDS = FoldOutputs(
        outputs=np.array([[0.8, 0.2], [0.1, 0.9], [0.0, 0.0], [0.5, 0.5]], np.float32),
        labels=np.array([0, 0, 1, 1]),
        folds=np.array([0, 3, -1, 4]),
        groups=np.array([0, 1, 2, 1]),
        units=8,
    )

    def test_are_those_of_the_pictures_that_were_left_out(self) -> None:
        found = self.FOLDS.answers(1)
        assert found.labels.tolist() == [0, 0, 1]
        assert found.predicted.tolist() == [0, 1, 0]
        assert found.groups.tolist() == [0, 1, 1]
        assert found.scores == pytest.approx([0.8, 0.9, 0.5])

    def test_have_the_probability_that_the_temperature_gives_them(self) -> None:
        logits = np.log(self.FOLDS.outputs[[0, 1, 3]])
        expected = softmax(logits / np.float32(2.5)).max(1)
        assert self.FOLDS.answers(2.5).scores == pytest.approx(expected, abs=1e-6)

    def test_know_which_pictures_are_near_duplicates(self) -> None:
        features, labels = clusters(60, spread=1.0)
        pictures = training_set(features, labels, {"p0": "x", "p3": "x"})
        found = cross_validate(pictures, PARAMETERS, num_classes=3, epochs=2)
        assert found is not None
        assert found.groups[0] == found.groups[3]
        assert len(set(found.groups.tolist())) == 59
