"""A bucket with a packed dataset and staged weights, made without the rooms that make them in a run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts.training import TrainingRecord, TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import find_backbone
from pipeline.npz import write_npz
from pipeline.pixels.host import resize_picture
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.trainer.trainer import trainer_for
from tests.fakes.rows import pack_index

CLASSES = ["stripes", "würfel"]


def tiny_pictures(number: int = 16) -> tuple[list[Any], list[int]]:
    """Make pictures of two kinds, of several sizes."""
    random, pictures, labels = np.random.default_rng(0), [], []
    for index in range(number):
        rows, columns = np.indices((20 + index, 30)) // 4
        pattern = columns % 2 if index % 2 == 0 else (rows + columns) % 2
        noise = random.integers(0, 60, (*pattern.shape, 3))
        pictures.append((pattern[..., None] * 180 + noise).astype(np.uint8))
        labels.append(index % 2)
    return pictures, labels


def make_bucket(
    root: Path,
    pictures: Any,
    labels: Any,
    *,
    backbone: str = "efficientnet_lite0",
    weights: str = "imagenet",
    bits: int = 16,
) -> tuple[Storage, list[str]]:
    """Stage weights and pack pictures; return the storage and the arguments of a job."""
    storage, row = Storage({"graft": root}), find_backbone(backbone)
    index = pack_pictures(storage, pictures, labels, replace(row.spec, bits=bits))
    staged = stage_weights(Workspace(storage, "gs://graft"), find_backbone(backbone), weights)
    arguments = ["--pack-index", index, "--weights", staged.uri]
    arguments += ["--backbone", backbone, "--workspace", "gs://graft", "--job-dir", "gs://graft/jobs/1"]
    return storage, arguments


def pack_pictures(storage: Storage, pictures: Any, labels: Any, spec: PixelSpec) -> str:
    """Pack pictures as one shard; return the URI of the pack index."""
    features = np.stack([resize_picture(picture, spec) for picture in pictures])
    ids = np.array([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures], "S64")
    data = write_npz({"features": features, "labels": np.asarray(labels, np.int64), "ids": ids})
    digest = hashlib.sha256(data).hexdigest()
    shard = {"uri": f"gs://graft/packs/{spec.digest}/{digest}.npz", "digest": digest, "rows": len(labels)}
    storage.create_bytes(shard["uri"], data)
    index = pack_index(
        spec=spec.to_dict(), classes=CLASSES, shards=[shard],
        tests=[{"uri": "gs://graft/tests/d_0/which-no-job-opens.jsonl", "rows": 1}],
    )  # fmt: skip
    storage.write_json("gs://graft/packs/d_0/index.json", index.to_dict())
    return "gs://graft/packs/d_0/index.json"


def run_job(storage: Storage, arguments: list[str], *more: str) -> TrainingRecord:
    """Run a job in this process."""
    return trainer_for(TrainingSpec.from_args([*arguments, *more]), storage).fit()
