"""Which pictures train the head that is kept."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.fold_answers import FoldAnswers
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import FeatureWork, HeadParameters, History, TrainingSpec, ValidationSplit
from pipeline.pages.progress import read_epochs
from pipeline.storage import Storage
from pipeline.trainer import calibration
from pipeline.trainer.features import TrainingFeatures
from pipeline.trainer.fitting import FittedHead, fit_head, train_to_best
from pipeline.trainer.head import Pictures, best_epoch, train_head
from pipeline.trainer.pictures import TrainingPictures, choose_validation
from tests.unit.pipeline.trainer.test_calibration import clusters, training_set

NUM = 60
SPEC = TrainingSpec(
    pack_index="p",
    weights="w",
    backbone="efficientnet_lite0",
    workspace="gs://graft",
    job_dir="j",
    units=8,
    epochs=25,
    learning_rate=0.01,
    calibration="none",
    validation_fraction=0.2,
)


def pictures(*, drawn: bool, given: bool = False, copies: int = 1) -> TrainingPictures:
    """Make pictures of which every fifth validates if they are drawn."""
    features, labels = clusters(NUM, spread=2.0)
    pool = training_set(features, labels)
    pool = calibration.TrainingSet(
        features=np.concatenate([features + number for number in range(copies)]),
        labels=np.tile(labels, copies),
        ids=pool.ids,
        groups={},
    )
    return TrainingPictures(
        pool=pool,
        drawn=np.arange(NUM) % 5 == 0 if drawn else None,
        reserved=clusters(15, spread=2.0, seed=3) if given else None,
        work=FeatureWork(forwarded=0, cached=0),
        first=features[:2],
        feature_uris=(),
        rows=np.full(NUM, True),
    )


def fit(made: TrainingPictures, **changes: Any) -> Any:
    return fit_head(replace(SPEC, **changes), Storage({}), ["a", "b", "c"], made)


def test_the_epochs_of_the_head_itself_are_told_and_those_of_folds_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="pipeline.trainer.head"):
        fit(pictures(drawn=False), epochs=3, calibration="temperature", validation_fraction=None)
        assert [read_epochs(line).text for line in caplog.messages] == caplog.messages
        assert [line.partition(":")[0] for line in caplog.messages] == [f"epoch {n} of 3" for n in (1, 2, 3)]
        progress = read_epochs("\n".join(caplog.messages))
        assert sorted(progress.lines) == ["accuracy", "loss"]
        caplog.clear()
        classes = ["a", "b", "c"]
        fit_head(replace(SPEC, epochs=3), Storage({}), classes, pictures(drawn=False), cross_validates=False)
        assert caplog.messages == []


class TestDrawnValidation:
    @pytest.mark.parametrize("copies", [1, 2])
    def test_chooses_the_epoch_and_then_all_pictures_train(self, copies: int) -> None:
        made = pictures(drawn=True, copies=copies)
        found = fit(made)
        assert "val_loss" in found.history
        epochs = best_epoch(found.history)
        assert 1 < epochs < 25
        expected, _ = train_head(
            *made.everything, 3, HeadParameters(units=8, epochs=epochs, learning_rate=0.01)
        )
        assert np.array_equal(found.head.hidden_kernel, expected.hidden_kernel)

    def test_trains_none_of_the_drawn_pictures_nor_their_copies_before(self) -> None:
        made = pictures(drawn=True, copies=3)
        features, labels = made.training
        drawn = set(range(0, NUM, 5))
        rows = [row for row in range(3 * NUM) if row % NUM not in drawn]
        assert np.array_equal(features, made.pool.features[rows])
        assert np.array_equal(labels, made.pool.labels[rows])
        assert made.validation is not None
        assert np.array_equal(made.validation[0], made.pool.features[:NUM:5])
        split = ValidationSplit(training=144, validation=12, final_training=180)
        assert made.validation_split == split

    def test_of_a_custom_head_too(self) -> None:
        seen: list[tuple[int, int, bool]] = []

        def train(
            trains: Pictures, parameters: HeadParameters, validation: Pictures | None
        ) -> tuple[str, History]:
            seen.append((len(trains[1]), parameters.epochs, validation is not None))
            return f"head {len(seen)}", {"loss": [3, 2, 1], "val_loss": [3, 1, 2]}

        head, history = train_to_best(train, pictures(drawn=True), SPEC)
        assert (head, len(history["loss"])) == ("head 2", 3)
        assert seen == [(48, 25, True), (60, 2, False)]


class TestGivenValidation:
    def test_judges_and_never_trains(self) -> None:
        made = pictures(drawn=False, given=True)
        found = fit(made)
        expected, history = train_head(
            *made.everything,
            3,
            HeadParameters(units=8, epochs=25, learning_rate=0.01),
            validation=made.reserved,
        )
        assert found.history == history
        assert np.array_equal(found.head.hidden_kernel, expected.hidden_kernel)
        split = ValidationSplit(training=60, validation=15, final_training=60)
        assert made.validation_split == split


class TestLogistic:
    def test_trains_on_every_picture_and_has_no_epochs(self) -> None:
        found = fit(pictures(drawn=False), head_type="logistic")
        assert found.history == {}
        assert found.head.output_kernel.shape == (12, 3)
        assert found.regularization is not None
        assert found.cross_validation.units == 0

    def test_draws_no_validation_because_there_is_no_epoch_to_choose(self) -> None:
        features, labels = clusters(NUM, spread=2.0)
        plain = TrainingFeatures(
            features=features,
            labels=labels,
            ids=tuple(f"p{number}" for number in range(NUM)),
            work=FeatureWork(forwarded=0, cached=0),
            uris=(),
        )
        chosen = [
            choose_validation(plain, {}, replace(SPEC, head_type=kind), frozenset())
            for kind in ("dense", "logistic")
        ]
        assert chosen[0] is not None
        assert chosen[1] is None


class TestFoldAnswers:
    @pytest.mark.parametrize("head", ["dense", "logistic"])
    def test_are_left_by_a_job_with_the_temperature_of_its_head(self, tmp_path: Path, head: str) -> None:
        job = JobDirectory(Storage({"graft": tmp_path}), "gs://graft/jobs/1")
        found = fit(pictures(drawn=False), head_type=head, calibration="temperature")
        found.keep_answers(job)
        kept = FoldAnswers.find(job)
        assert kept is not None
        assert (len(kept.labels), kept.labels.min(), kept.labels.max()) == (NUM, 0, 2)
        expected = found.folds.answers(found.calibration.temperature)
        assert np.array_equal(kept.scores, expected.scores)
        assert not np.array_equal(kept.scores, found.folds.answers(1).scores)
        right = kept.labels == kept.predicted
        assert right.mean() == pytest.approx(found.cross_validation.accuracy, abs=0.02)

    def test_are_not_left_where_too_few_pictures_can_be_left_out(self, tmp_path: Path) -> None:
        job = JobDirectory(Storage({"graft": tmp_path}), "gs://graft/jobs/1")
        FittedHead(head=fit(pictures(drawn=False)).head).keep_answers(job)
        assert FoldAnswers.find(job) is None
