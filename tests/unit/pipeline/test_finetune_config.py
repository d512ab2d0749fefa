"""`model.finetune`: what is meant by default, and what is refused before a job is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from pipeline.submission.finetuning import check_blocks, check_finetuning
from pipeline.submission.training_spec import build_training_spec
from tests.fakes.rows import pack_index

YAML = {"name": "m", "dataset": {"source": {"type": "sample"}}}


def classifier(**model: Any) -> Classifier:
    return Classifier.from_dict({**YAML, "model": model})


def spec(**model: Any) -> TrainingSpec:
    return build_training_spec(
        classifier(**model),
        pack_index="gs://graft/p.json",
        weights="gs://graft/weights/w",
        workspace="gs://graft",
    )


@pytest.mark.parametrize(
    ("finetune", "expected"),
    [
        ({"blocks": 1}, (1, "maps", 8, 0.0001)),
        ({"blocks": 2, "on": "pictures", "epochs": 3}, (2, "pictures", 3, 0.0001)),
        ({"blocks": "all", "learning_rate": 0.01}, ("all", "pictures", 8, 0.01)),
        ({"blocks": 0, "on": "pictures"}, (0, "pictures", 20, 0.001)),
    ],
)
def test_a_job_is_told_what_is_meant(finetune: dict[str, Any], expected: tuple[Any, ...]) -> None:
    told = TrainingSpec.from_args(
        [*spec(finetune=finetune).to_args(), "--job-dir", "gs://graft/j"]
    ).finetuning
    assert told is not None
    assert (told.blocks, told.on, told.epochs, told.learning_rate) == expected


def test_a_frozen_network_is_told_nothing_of_it() -> None:
    assert "--finetune" not in spec().to_args()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"finetune": {"blocks": -1}}, "a number of blocks"),
        ({"finetune": {"blocks": True}}, "a number of blocks"),
        ({"finetune": {"blocks": "most"}}, "or `all`"),
        ({"finetune": {}}, r"`model\.finetune\.blocks` is missing"),
        ({"finetune": {"blocks": 1, "epochs": 0}}, r"model\.finetune\.epochs"),
        ({"finetune": {"blocks": 1, "rate": 1}}, r"unknown key `model\.finetune\.rate`"),
        ({"finetune": {"blocks": 0, "on": "maps"}}, "set `on: pictures`"),
        ({"finetune": {"blocks": "all", "on": "maps"}}, "no feature maps"),
        ({"finetune": {"blocks": 1, "augmentation": True}}, "alters pictures"),
        ({"finetune": {"blocks": 1}, "head": {"type": "logistic"}}, "a dense head"),
        ({"finetune": {"blocks": 1}, "head": {"module": "a.py"}}, "a dense head"),
        ({"finetune": {"blocks": 1}, "warm_start": True}, "`warm_start`"),
        ({"finetune": {"blocks": 1}, "tune": {"parameters": {"epochs": [5, 9]}}}, "tune first"),
        ({"finetune": {"blocks": 1}, "backbone": {"keras": "net.keras"}}, "stays frozen"),
    ],
)
def test_what_cannot_be_fine_tuned_is_named(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(**model)


@pytest.mark.parametrize(
    ("backbone", "count"),
    [("efficientnet_lite0", 16), ("efficientnet_lite2", 21), ("inception_v3", 11)],
)
def test_more_blocks_than_there_are_is_refused(backbone: str, count: int) -> None:
    for blocks in (0, count, "all"):
        on = "maps" if blocks == count else "pictures"
        check_blocks(classifier(backbone=backbone, finetune={"blocks": blocks, "on": on}).model)
    model = classifier(backbone=backbone, finetune={"blocks": count + 1}).model
    with pytest.raises(ConfigError, match=f"{backbone} has {count} blocks; give at most {count}, or `all`"):
        check_blocks(model)


@pytest.mark.parametrize(
    ("finetune", "rows", "fits"),
    [
        ({"blocks": 1}, 100_000, True),
        ({"blocks": 1}, 120_000, False),
        ({"blocks": 1, "on": "pictures"}, 28_000, True),
        ({"blocks": 1, "on": "pictures"}, 29_000, False),
    ],
)
def test_more_pictures_than_memory_holds_are_refused(
    tmp_path: Path, finetune: dict[str, Any], rows: int, fits: bool
) -> None:
    storage = Storage({"graft": tmp_path})
    job, workspace = spec(finetune=finetune), Workspace(storage, "gs://graft")
    shard = {"uri": "gs://graft/s.npz", "digest": "s", "rows": rows}
    storage.write_json(job.pack_index, pack_index(shards=[shard]).to_dict())
    if fits:
        check_finetuning(workspace, job)
        return
    with pytest.raises(ConfigError, match="GiB of memory"):
        check_finetuning(workspace, job)


def test_parameters_travel_as_text() -> None:
    told = FinetuneParameters(blocks="all", on="pictures", epochs=2, learning_rate=0.5, augments=True)
    assert FinetuneParameters.from_text(told.to_text()) == told
