from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from pipeline.artifacts.finetuning import FinetuneRecord
from pipeline.artifacts.training import (
    AugmentationRecord,
    Calibration,
    CrossValidation,
    Regularization,
    TFLiteParity,
    TrainingRecord,
    TrainingSpec,
    ValidationSplit,
    WarmStart,
)
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import FormatTooNew
from pipeline.storage import Storage
from pipeline.submission.training_spec import build_training_spec
from tests.fakes.training import training_record

YAML = {"name": "m", "dataset": {"source": {"type": "sample"}}}
SPEC = TrainingSpec(
    pack_index="gs://graft/packs/i.json",
    weights="gs://graft/weights/w",
    backbone="efficientnet_lite0",
    workspace="gs://graft",
)


class TestSpec:
    def test_arguments_are_read_as_they_were_written(self) -> None:
        spec = replace(
            SPEC,
            units=7,
            learning_rate=1e-5,
            class_weights="balanced",
            head_module="gs://graft/heads/h.py",
            warm_start="gs://graft/jobs/1/model",
            views=3,
            reject_below=0.25,
            reject_unlike=0.5,
            thresholds='{"würfel": 0.5}',
        )
        read = TrainingSpec.from_args([*spec.to_args(), "--job-dir", "gs://graft/jobs/2"])
        assert read == replace(spec, job_dir="gs://graft/jobs/2")

    def test_the_names_of_the_arguments_are_the_published_ones(self) -> None:
        spec = replace(SPEC, head_module="h", warm_start="m", job_dir="j")
        flags = "pack-index weights backbone workspace head-type units head-module epochs batch-size seed"
        flags += " learning-rate validation-fraction patience class-weights calibration views views-seed"
        flags += " warm-start reject-below reject-unlike job-dir"
        assert sorted(spec.to_args()[::2]) == sorted(f"--{flag}" for flag in flags.split())

    def test_the_parameters_of_logistic_regression_are_those_that_it_has(self) -> None:
        assert set(replace(SPEC, head_type="logistic").head_parameters()) == {
            "head_type",
            "seed",
            "class_weights",
            "calibration",
        }
        assert {"units", "epochs"} < set(SPEC.head_parameters())

    def test_a_class_without_a_threshold_has_the_common_bound(self) -> None:
        spec = replace(SPEC, reject_below=0.25, thresholds='{"bee": 0.5, "cat": 0.0}')
        assert spec.label_bounds(["ant", "bee", "cat"]) == [0.25, 0.5, 0.0]
        assert replace(spec, thresholds="").label_bounds(["ant", "bee"]) == 0.25

    def test_what_is_empty_is_no_argument(self) -> None:
        assert not {"--head-module", "--warm-start", "--job-dir"} & set(SPEC.to_args())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (SPEC.to_args(), "required: --job-dir"),
            (["--job-dir", "gs://j"], "required: --pack-index, --weights, --backbone, --workspace"),
            ([*SPEC.to_args(), "--job-dir", "gs://j", "--class-weights", "some"], "invalid choice: 'some'"),
            ([*SPEC.to_args(), "--job-dir", "gs://j", "--units", "many"], "invalid int value: 'many'"),
        ],
    )
    def test_other_arguments_are_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            TrainingSpec.from_args(arguments)
        assert message in capsys.readouterr().err

    def test_it_takes_over_every_setting_of_the_classifier(self) -> None:
        model = {
            "backbone": "inception_v3",
            "head": {"type": "logistic", "units": 9},
            "epochs": 11,
            "batch_size": 12,
            "learning_rate": 0.13,
            "seed": 14,
            "validation_fraction": 0.15,
            "early_stopping": {"patience": 16},
            "class_weights": "balanced",
            "calibration": "none",
            "augmentation": {"views": 17, "seed": 18},
        }
        values = {
            "name": "toys",
            "dataset": {"source": {"type": "sample"}},
            "model": model,
            "serving": {"reject_below": 0.19, "reject_unlike": 0.2, "thresholds": {"bee": 0.8, "ant": 1}},
        }
        spec = build_training_spec(
            Classifier.from_dict(values), pack_index="gs://i", weights="gs://w", workspace="gs://graft"
        )
        assert spec == TrainingSpec(
            pack_index="gs://i",
            weights="gs://w",
            workspace="gs://graft",
            backbone="inception_v3",
            head_type="logistic",
            units=9,
            epochs=11,
            batch_size=12,
            learning_rate=0.13,
            seed=14,
            validation_fraction=0.15,
            patience=16,
            class_weights="balanced",
            calibration="none",
            views=17,
            views_seed=18,
            reject_below=0.19,
            reject_unlike=0.2,
            thresholds='{"ant": 1.0, "bee": 0.8}',
        )
        same = {field.name for field in fields(spec) if getattr(spec, field.name) == field.default}
        # `validation` says that the source names what validates, in place of a fraction; fine-tuning needs a
        # dense head, and has tests of its own.
        assert same == {"head_module", "validation", "warm_start", "job_dir", "finetune"}


class TestRecord:
    FULL = training_record(
        validation=ValidationSplit(training=3, validation=1, final_training=4),
        augmentation=AugmentationRecord(views=2, seed=5),
        warm_start=WarmStart(model_uri="gs://graft/jobs/1/model", classes=("ant",)),
        calibration=Calibration(temperature=2.0, pictures=4, log_loss_before=0.5, log_loss_after=0.25),
        cross_validation=CrossValidation(
            folds=5, pictures=4, accuracy=0.75, spread=0.1, log_loss=0.5, units=128
        ),
        regularization=Regularization(c=10.0, tried=(3.0, 10.0), log_losses=(0.5, 0.25)),
        finetune=FinetuneRecord(
            blocks=1,
            on="maps",
            learning_rate=0.0001,
            augments=False,
            trained_parameters=7,
            history={"loss": [0.5, 0.25], "accuracy": [0.5, 1.0]},
            epochs_run=2,
            best_epoch=2,
            weights="gs://graft/jobs/1/finetuning/f",
            base_weights="gs://graft/weights/w",
            base_features=("gs://graft/features/w/p/s.npz",),
            resumed_after=1,
            input_bytes=100,
            peak_memory_bytes=1000,
            cpu_seconds=0.5,
        ),
        features=("gs://graft/features/w/p/s.npz",),
        tflite=TFLiteParity(pictures=3, largest_difference=1e-6),
    )

    @pytest.mark.parametrize("record", [FULL, training_record()])
    def test_it_is_read_as_it_was_written(self, record: TrainingRecord, tmp_path: Path) -> None:
        job = Workspace(Storage({"graft": tmp_path}), "gs://graft").job("1")
        record.write(job)
        assert TrainingRecord.read(job) == record

    def test_an_older_split_trained_its_head_without_the_pictures_that_validated(self) -> None:
        value = json.loads(json.dumps(self.FULL.to_dict()))
        del value["validation"]["final_training"], value["regularization"]
        read = TrainingRecord.from_dict(value)
        assert read.validation == ValidationSplit(training=3, validation=1, final_training=3)
        assert read.regularization is None

    def test_its_keys_are_the_published_ones(self) -> None:
        keys = "history epochs_run best_epoch validation augmentation class_weights warm_start head_module"
        keys += " calibration cross_validation regularization finetune features work light package classes"
        keys += " parameters seconds cpu_seconds tensorflow format"
        assert set(self.FULL.to_dict()) == set(keys.split())

    def test_a_record_of_before_there_were_formats_is_read(self) -> None:
        value = json.loads(json.dumps(self.FULL.to_dict()))
        del value["format"]
        assert TrainingRecord.from_dict(value) == self.FULL

    def test_a_record_of_a_newer_version_is_refused_by_name(self) -> None:
        value = {**self.FULL.to_dict(), "format": 2}
        with pytest.raises(FormatTooNew, match="TrainingRecord has the format 2; .* reads up to 1"):
            TrainingRecord.from_dict(value)
