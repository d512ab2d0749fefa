"""The article's pictures: opera house or capitol, from 38-pixel thumbnails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.training import HeadParameters
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.folded import build_network
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.npz import read_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.preprocess.split import split_at_random
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.tflite.head import Head
from pipeline.trainer.head import train_head

pytestmark = pytest.mark.shared_data
BACKBONE = find_backbone("efficientnet_lite0")
SPLIT_SEEDS = (42, 0, 1, 2, 3, 4, 5, 6)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Any:
    storage = Storage({"graft": tmp_path_factory.mktemp("bucket")})
    staged = stage_weights(Workspace(storage, "gs://graft"), BACKBONE, "imagenet")
    return build_network(BACKBONE.name, read_weights(storage.local_path(staged.uri), BACKBONE.name))


@pytest.fixture(scope="module")
def features(network: Any, shared_data: Path) -> tuple[Any, Any]:
    arrays = read_npz(shared_data / "opera_capitol" / "opera_capitol_thumbs.npz")
    pixels = np.stack([resize_picture(picture, BACKBONE.spec) for picture in arrays["features"]])
    batches = [network(pixels[start : start + 20]).numpy() for start in range(0, len(pixels), 20)]
    return np.concatenate(batches), arrays["labels"]


def train_split(features: tuple[Any, Any], seed: int) -> tuple[Head, float, float]:
    values, labels = features
    splits = np.array(split_at_random(len(labels), fraction=0.2, seed=seed))
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")  # as a pack has them
    head, _ = train_head(values[train], labels[train], 2, HeadParameters())
    outputs = head.predict(values[test])
    loss = -np.log(outputs[np.arange(len(test)), labels[test]]).mean()
    return head, float((outputs.argmax(1) == labels[test]).mean()), float(loss)


def test_the_articles_split_reaches_the_articles_figures(features: tuple[Any, Any]) -> None:
    _, accuracy, loss = train_split(features, 42)
    assert accuracy >= 0.975
    assert loss <= 0.112


def test_eight_splits_reach_094_on_average(features: tuple[Any, Any]) -> None:
    assert np.mean([train_split(features, seed)[1] for seed in SPLIT_SEEDS]) >= 0.94


def test_the_opera_is_recognised(features: tuple[Any, Any], network: Any, shared_data: Path) -> None:
    pixels = decode_picture((shared_data / "opera_capitol" / "opera.jpg").read_bytes())
    head, _, _ = train_split(features, 42)
    outputs = head.predict(network(resize_picture(pixels, BACKBONE.spec)[None]).numpy())
    assert outputs[0, 0] >= 0.9974
