from __future__ import annotations

import numpy as np
import pytest

from pipeline.artifacts.training import HeadParameters
from pipeline.trainer import cross_validation as module
from pipeline.trainer.cross_validation import FOLDS, MAX_UNITS, cross_validate
from tests.unit.pipeline.trainer.test_calibration import clusters, training_set

PARAMETERS = HeadParameters(units=16, epochs=30, learning_rate=0.01)


class TestCrossValidation:
    def test_its_mean_is_the_accuracy_of_a_head_on_new_pictures(self) -> None:
        features, labels = clusters(600, spread=2.0)
        found = cross_validate(training_set(features, labels), PARAMETERS, num_classes=3, epochs=30)
        assert found is not None
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
        assert leaky.accuracy > 0.95
        assert honest.accuracy < 0.75  # labels are random

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
        assert found.pictures == 60

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
