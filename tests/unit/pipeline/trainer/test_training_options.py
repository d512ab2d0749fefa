"""Validation, early stopping, class weights, augmentation and warm start, on made-up features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.training import FeatureWork, HeadParameters, TrainingSpec, WarmStart
from pipeline.errors import LabelMapMismatch
from pipeline.npz import write_npz
from pipeline.storage import Storage
from pipeline.trainer.augmentation import make_augmentations
from pipeline.trainer.features import TrainingFeatures
from pipeline.trainer.head import balance_classes, best_epoch, initial_head, train_head
from pipeline.trainer.pictures import choose_validation
from pipeline.trainer.validation import split_validation
from pipeline.trainer.warm_start import read_start

SIZES = {"units": 8, "learning_rate": 0.01}


def clusters(num_pictures: int = 120, classes: int = 3, spread: float = 1.5) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    labels = np.arange(num_pictures) % classes
    features = random.normal(0, spread, (num_pictures, 6)) + 3 * np.eye(6)[labels]
    return features.astype(np.float32), labels


class TestGivenValidation:
    def spec(self, **facts: Any) -> TrainingSpec:
        places = {
            "pack_index": "p",
            "weights": "w",
            "backbone": "b",
            "workspace": "gs://graft",
            "job_dir": "j",
        }
        return TrainingSpec(**places, **facts)

    def plain(self) -> TrainingFeatures:
        return TrainingFeatures(
            features=np.zeros((4, 2), np.float32),
            labels=np.array([0, 0, 1, 1]),
            ids=("a", "b", "c", "d"),
            work=FeatureWork(forwarded=0, cached=0),
            uris=(),
        )

    def test_is_what_the_pack_index_names(self) -> None:
        chosen = choose_validation(self.plain(), {}, self.spec(validation="given"), frozenset("bd"))
        assert chosen is not None
        assert chosen.tolist() == [False, True, False, True]

    def test_is_not_looked_at_by_other_jobs(self) -> None:
        assert choose_validation(self.plain(), {}, self.spec(), frozenset("bd")) is None

    def test_travels_in_the_command_line(self) -> None:
        spec = self.spec(validation="given")
        assert TrainingSpec.from_args([*spec.to_args(), "--job-dir", "j"]).validation == "given"
        assert "--validation" not in self.spec().to_args()


class TestValidation:
    def test_a_group_is_never_on_both_sides(self) -> None:
        ids = [f"p{number}" for number in range(100)]
        groups = {id: f"p{number - number % 3}" for number, id in enumerate(ids)}
        labels = np.arange(100) // 50
        chosen = split_validation(ids, labels, groups, fraction=0.2, seed=0)
        sides: dict[str, set[bool]] = {}
        for id, side in zip(ids, chosen, strict=True):
            sides.setdefault(groups[id], set()).add(bool(side))
        assert {len(found) for found in sides.values()} == {1}
        assert 15 <= chosen.sum() <= 22

    def test_each_class_gives_its_share(self) -> None:
        labels = np.array([0] * 200 + [1] * 20)
        chosen = split_validation([str(n) for n in range(220)], labels, {}, fraction=0.1, seed=0)
        assert np.bincount(labels[chosen]).tolist() == [20, 2]

    def test_a_class_of_one_group_keeps_it_for_training(self) -> None:
        chosen = split_validation(["a", "b", "c"], np.array([0, 0, 1]), {"b": "a"}, fraction=0.5, seed=0)
        assert not chosen.any()

    def test_new_pictures_hardly_move_the_old_ones(self) -> None:
        old = [f"old{number}" for number in range(200)]
        both = old + [f"new{number}" for number in range(20)]
        before = split_validation(old, np.zeros(200, int), {}, fraction=0.2, seed=0)
        after = split_validation(both, np.zeros(220, int), {}, fraction=0.2, seed=0)[:200]
        assert (before != after).sum() <= 8

    def test_the_seed_chooses(self) -> None:
        ids = [str(number) for number in range(50)]
        split = [split_validation(ids, np.zeros(50, int), {}, fraction=0.2, seed=seed) for seed in (0, 0, 1)]
        assert np.array_equal(split[0], split[1])
        assert not np.array_equal(split[0], split[2])


class TestEarlyStopping:
    def test_the_head_of_the_best_epoch_is_returned(self) -> None:
        features, labels = clusters()
        validation = clusters(60, spread=2.5)
        parameters = HeadParameters(epochs=40, **SIZES)
        head, history = train_head(features, labels, 3, parameters, validation=validation)
        best = best_epoch(history)
        assert best < 40
        again = HeadParameters(epochs=best, **SIZES)
        until_best, _ = train_head(features, labels, 3, again, validation=validation)
        assert np.array_equal(head.hidden_kernel, until_best.hidden_kernel)
        own = head.predict(validation[0])[np.arange(60), validation[1]]
        assert -np.log(own).mean() == pytest.approx(min(history["val_loss"]), rel=1e-5)

    def test_patience_ends_training_early_with_the_same_head(self) -> None:
        features, labels = clusters()
        validation = clusters(60, spread=2.5)
        runs = [
            train_head(
                features, labels, 3, HeadParameters(epochs=60, patience=p, **SIZES), validation=validation
            )
            for p in (0, 5)
        ]
        assert len(runs[0][1]["loss"]) == 60
        assert len(runs[1][1]["loss"]) == best_epoch(runs[1][1]) + 5 < 60

    def test_without_validation_the_last_epoch_is_kept(self) -> None:
        features, labels = clusters()
        _, history = train_head(features, labels, 3, HeadParameters(epochs=4, **SIZES))
        assert set(history) == {"loss", "accuracy"}
        assert best_epoch(history) == 4


class TestClassWeights:
    def test_balanced_weights_are_scikit_learns(self) -> None:
        from sklearn.utils.class_weight import compute_class_weight

        labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
        expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
        assert balance_classes(labels, 3) == pytest.approx(expected)

    def test_a_class_without_pictures_weighs_nothing_and_changes_no_other(self) -> None:
        labels = np.array([0] * 70 + [2] * 20 + [3] * 10)
        weights = balance_classes(labels, 5)
        assert weights[[1, 4]].tolist() == [0, 0]
        assert weights[[0, 2, 3]] == pytest.approx(
            balance_classes(np.array([0] * 70 + [1] * 20 + [2] * 10), 3)
        )
        assert weights[labels].mean() == pytest.approx(1)

    def test_training_with_a_class_without_pictures_keeps_its_numbers(self) -> None:
        features, labels = clusters(classes=2)
        parameters = HeadParameters(epochs=3, class_weights="balanced", **SIZES)
        head, history = train_head(features, labels * 2, 3, parameters)
        assert np.isfinite(head.predict(features)).all()
        assert history["loss"][-1] < history["loss"][0]

    def test_a_balanced_set_trains_as_without(self) -> None:
        features, labels = clusters()
        runs = [
            train_head(features, labels, 3, HeadParameters(epochs=3, class_weights=weights, **SIZES))[0]
            for weights in ("none", "balanced")
        ]
        assert runs[0].hidden_kernel == pytest.approx(runs[1].hidden_kernel, abs=1e-6)

    def test_they_win_back_the_recall_of_a_small_class(self) -> None:
        features, labels = clusters(600, classes=2)
        keep = (labels == 0) | (np.arange(600) % 20 == 1)
        test, truth = clusters(400, classes=2)
        recalls = []
        for weights in ("none", "balanced"):
            parameters = HeadParameters(epochs=10, class_weights=weights, **SIZES)
            head, _ = train_head(features[keep], labels[keep], 2, parameters)
            recalls.append((head.predict(test).argmax(1) == truth)[truth == 1].mean())
        assert recalls[1] > recalls[0] + 0.05


class TestAugmentation:
    PIXELS = np.random.default_rng(0).integers(0, 255, (3, 20, 16, 3), np.uint8)
    IDS = np.array(["a", "b", "c"], "S64")

    def test_are_the_same_every_time_and_differ_among_themselves(self) -> None:
        first, second = make_augmentations(2, seed=0)
        assert np.array_equal(
            first(self.PIXELS, self.IDS), make_augmentations(1, seed=0)[0](self.PIXELS, self.IDS)
        )
        assert not np.array_equal(first(self.PIXELS, self.IDS), second(self.PIXELS, self.IDS))
        assert first.digest != second.digest != make_augmentations(2, seed=1)[1].digest

    def test_depend_on_the_picture_not_on_its_batch(self) -> None:
        [augmentation] = make_augmentations(1, seed=0)
        together = augmentation(self.PIXELS, self.IDS)
        assert np.array_equal(augmentation(self.PIXELS[1:2], self.IDS[1:2])[0], together[1])

    def test_keep_shape_and_type(self) -> None:
        [augmentation] = make_augmentations(1, seed=5)
        altered = augmentation(self.PIXELS, self.IDS)
        assert (altered.shape, altered.dtype) == (self.PIXELS.shape, np.uint8)

    def test_keep_a_plain_picture_plain_within_the_range_of_brightness(self) -> None:
        [augmentation] = make_augmentations(1, seed=5)
        altered = augmentation(np.full((3, 8, 8, 3), 100, np.uint8), self.IDS)
        assert all(len(np.unique(picture)) == 1 for picture in altered)
        assert 75 <= altered.min() <= altered.max() <= 125


class TestWarmStart:
    @pytest.fixture
    def model(self, tmp_path: Path) -> ModelDirectory:
        model = ModelDirectory(Storage({"graft": tmp_path}), "gs://graft/m")
        head = initial_head(6, 2, units=8, seed=9)
        head.output_bias[:] = [3, 5]
        model.storage.write_bytes(model.head, write_npz(head.arrays()))
        model.storage.write_bytes(model.labels, json.dumps(["ant", "bee"]).encode())
        return model

    def test_classes_are_joined_by_name(self, model: ModelDirectory) -> None:
        head, start = read_start(model, ["bee", "cat", "ant"], feature_width=6, units=8, seed=0)
        old = initial_head(6, 2, units=8, seed=9)
        assert np.array_equal(head.hidden_kernel, old.hidden_kernel)
        assert np.array_equal(head.output_kernel[:, [2, 0]], old.output_kernel)
        assert head.output_bias.tolist() == [5, 0, 3]
        assert start == WarmStart(model_uri="gs://graft/m", classes=("bee", "ant"))

    def test_another_shape_is_refused_with_the_fix(self, model: ModelDirectory) -> None:
        with pytest.raises(LabelMapMismatch, match=r"model.warm_start: false"):
            read_start(model, ["ant", "bee"], feature_width=6, units=9, seed=0)

    def test_training_goes_on_from_it(self) -> None:
        features, labels = clusters()
        parameters = HeadParameters(epochs=5, **SIZES)
        head, first = train_head(features, labels, 3, parameters)
        _, second = train_head(features, labels, 3, parameters, start=head.copy())
        assert second["loss"][0] < first["loss"][-1]
