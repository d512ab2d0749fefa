from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.training import TrainingSpec
from pipeline.backbones.table import find_backbone
from pipeline.errors import EXIT_FINAL, EmptyDataset, LabelMapMismatch, WeightsMismatch
from pipeline.npz import write_npz
from pipeline.storage import Storage
from pipeline.trainer.frozen_network import FrozenNetwork
from pipeline.trainer.task import main
from pipeline.trainer.trainer import trainer_for
from tests.fakes.rows import pack_index

PIXELS = find_backbone("efficientnet_lite0").spec
REQUIRED = "--pack-index gs://graft/index.json --weights gs://graft/weights/abc --backbone efficientnet_lite0"
REQUIRED += " --workspace gs://graft --job-dir gs://graft/jobs/1"
SPEC = TrainingSpec.from_args(REQUIRED.split())


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path})


def write_index(storage: Storage, *, labels: list[int], spec: dict[str, Any] | None = None) -> None:
    shards = []
    if labels:
        pixels = np.zeros((len(labels), PIXELS.height, PIXELS.width, 3), np.uint8)
        ids = np.array([f"{number:064x}" for number in range(len(labels))], "S64")
        data = write_npz({"features": pixels, "labels": np.array(labels, np.int64), "ids": ids})
        storage.write_bytes("gs://graft/shard.npz", data)
        shards = [{"uri": "gs://graft/shard.npz", "digest": "d", "rows": len(labels)}]
        features = write_npz({"ids": ids, "features": np.zeros((len(labels), 1280), np.float32)})
        storage.write_bytes(f"gs://graft/features/abc/{PIXELS.digest}/d.npz", features)
    index = pack_index(spec=spec or PIXELS.to_dict(), classes=["a", "b"], shards=shards)
    storage.write_json("gs://graft/index.json", index.to_dict())


def test_defaults_are_the_articles() -> None:
    assert (SPEC.units, SPEC.epochs, SPEC.batch_size) == (1024, 20, 32)
    assert (SPEC.learning_rate, SPEC.seed) == (0.001, 42)


def test_a_pack_of_another_backbone_is_refused(storage: Storage) -> None:
    write_index(storage, labels=[0, 1], spec=find_backbone("inception_v3").spec.to_dict())
    with pytest.raises(LabelMapMismatch, match="not those of efficientnet_lite0"):
        trainer_for(SPEC, storage)


def test_a_pack_without_training_pictures_is_refused(storage: Storage) -> None:
    write_index(storage, labels=[])
    with pytest.raises(EmptyDataset, match="no training picture"):
        trainer_for(SPEC, storage)


def test_a_label_without_a_class_is_refused(storage: Storage) -> None:
    write_index(storage, labels=[0, 2])
    with pytest.raises(LabelMapMismatch, match="outside the 2 classes"):
        trainer_for(SPEC, storage)


def test_a_threshold_of_no_class_is_refused(storage: Storage) -> None:
    write_index(storage, labels=[0, 1])
    spec = replace(SPEC, thresholds='{"b": 0.5, "cat": 0.8}')
    with pytest.raises(LabelMapMismatch, match="`serving.thresholds` has cat, but the classes .* are a, b"):
        trainer_for(spec, storage)


def test_an_error_that_another_job_would_repeat_ends_the_job_with_a_code_that_says_so(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_index(storage, labels=[])
    monkeypatch.setenv("GRAFT_BUCKETS", f"graft={tmp_path}")
    assert main(REQUIRED.split()) == EXIT_FINAL
    assert "EmptyDataset: The pack has no training picture" in caplog.text


def test_weights_with_other_bytes_than_their_name_says_are_refused(storage: Storage) -> None:
    storage.write_bytes("gs://graft/weights/abc", b"not these")
    with pytest.raises(WeightsMismatch, match="stage the weights again"):
        FrozenNetwork(find_backbone("efficientnet_lite0"), "gs://graft/weights/abc", storage)


def test_an_unknown_backbone_is_refused_with_the_known_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert main([*REQUIRED.split(), "--backbone", "vgg"]) == EXIT_FINAL
    assert "UnknownBackbone: There is no backbone 'vgg'" in caplog.text
    assert "efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, inception_v3" in caplog.text


def test_the_arguments_are_read_before_tensorflow_is() -> None:
    code = "import sys, pipeline.trainer.task; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
