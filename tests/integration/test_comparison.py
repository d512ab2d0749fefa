"""A comparison job on a real backbone: what the command line reads is what the job leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.held_out_answers import ComparisonRecord, ComparisonSpec, HeldOutAnswers
from pipeline.artifacts.training import TrainingSpec
from pipeline.errors import EmptyDataset
from pipeline.trainer.comparison import compare_options
from tests.integration.trainer_pack import make_bucket, tiny_pictures

pytestmark = pytest.mark.soak  # TensorFlow converts the backbone


def test_heads_of_one_backbone_are_compared_on_features_that_are_computed_once(tmp_path: Path) -> None:
    storage, arguments = make_bucket(tmp_path, *tiny_pictures(40))
    base = TrainingSpec.from_args(arguments)
    few = replace(base, epochs=1, units=2)
    compare_options(
        ComparisonSpec(base=base, options=(base, replace(base, head_type="logistic"), few)), storage
    )
    record = ComparisonRecord.read(base.open_job(storage))
    assert (record.work.forwarded, record.work.cached) == (40, 0)
    dense, logistic, small = record.options
    assert dense.head_bytes > small.head_bytes > logistic.head_bytes / 10
    assert record.network_bytes > 10_000_000
    assert 0 < record.network_cpu_ms
    answers = HeldOutAnswers.read(base.open_job(storage))
    assert answers.outputs.shape == (3, 40, 2)
    accuracy = (answers.outputs.argmax(2) == answers.labels).mean(1)
    assert accuracy[0] == accuracy[1] == 1.0
    assert not list(storage.list_uris("gs://graft/jobs/1/model/"))


def test_too_few_pictures_are_named(tmp_path: Path) -> None:
    storage, arguments = make_bucket(tmp_path, *tiny_pictures(12))
    base = TrainingSpec.from_args(arguments)
    with pytest.raises(EmptyDataset, match="at least 20 training pictures.*there are 12"):
        compare_options(ComparisonSpec(base=base, options=(base,)), storage)
