"""Cells of the comparison of models: one model, trained and judged on one split of a set of real pictures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.quality import ece, log_loss
from benchmarks.real_pictures import read_decoded, split_by_class
from pipeline.artifacts.pack import PackedShard, PackIndex
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import find_backbone
from pipeline.config import Classifier
from pipeline.npz import save_npz
from pipeline.pixels.host import resize_picture
from pipeline.storage import Storage
from pipeline.submission.backbone import stage_backbone
from pipeline.submission.package import build_package
from pipeline.submission.training_spec import build_training_spec
from pipeline.trainer.finetune import finetune
from pipeline.trainer.fitting import fit_head
from pipeline.trainer.frozen_network import FrozenNetwork
from pipeline.trainer.pictures import TrainingPictures, collect_pictures

BUCKET = "gs://graft"
BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Packed:
    """All pictures of a set as one backbone sees them, in a bucket with a cache of features.

    Args:
        name: Of the set.
        backbone: Of the table.
        workspace: Where they are.
    """

    name: str
    backbone: str
    workspace: Workspace

    @cached_property
    def index(self) -> PackIndex:
        """The pack, made where it is missing."""
        spec, storage = find_backbone(self.backbone).spec, self.workspace.storage
        name = f"{self.name}_{self.backbone}"
        decoded = read_decoded(self.name)
        shard = PackedShard(
            uri=self.workspace.pack_shard(spec.digest, name), digest=name, rows=len(decoded.labels)
        )
        index = PackIndex(
            dataset=self.name,
            version=name,
            spec=spec.to_dict(),
            classes=decoded.classes,
            shards=[shard],
            tests=[],
        )
        if not storage.exists(shard.uri):
            pixels = np.stack([resize_picture(picture, spec) for picture in decoded.pictures])
            ids = np.array(decoded.names, "S64")
            arrays = {"features": pixels, "labels": decoded.labels.astype(np.int64), "ids": ids}
            storage.write_large(shard.uri, partial(save_npz, arrays=arrays), if_absent=True)
        storage.write_json(self.index_uri, index.to_dict())
        return index

    @property
    def index_uri(self) -> str:
        """Where jobs find the pack."""
        return self.workspace.pack_index(
            f"{self.name}_{self.backbone}", find_backbone(self.backbone).spec.digest
        )

    def spec(self, model: Mapping[str, Any]) -> TrainingSpec:
        """Return what a training job of this model is told."""
        source = {"type": "folder", "uri": "gs://graft/none"}
        classifier = Classifier.from_dict({"name": "bench", "dataset": {"source": source}, "model": model})
        return build_training_spec(
            classifier,
            pack_index=self.index_uri,
            weights=stage_backbone(self.workspace, classifier.model).uri,
            workspace=self.workspace.uri,
        )

    @cached_property
    def pictures(self) -> TrainingPictures:
        """All pictures, with their features; the network runs where they are not cached."""
        index = self.index  # which makes the pack
        spec, backbone = self.spec({"backbone": self.backbone}), find_backbone(self.backbone)
        network = FrozenNetwork(backbone, spec.weights, self.workspace.storage)
        return collect_pictures(self.workspace, index, spec, network, backbone)

    @cached_property
    def pixels(self) -> Any:
        """The pixels of all pictures."""
        with np.load(self.workspace.storage.local_path(self.index.shards[0].uri)) as arrays:
            return arrays["features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one model did on one split.

    Args:
        accuracy: On the test pictures.
        log_loss: On the test pictures.
        ece: On the test pictures.
        cpu: Seconds of training, of this process and of those that it starts.
    """

    accuracy: float
    log_loss: float
    ece: float
    cpu: float


def measure_cell(packed: Packed, model: Mapping[str, Any], seed: int) -> Cell:
    """Train a model as a job does, without its export, and judge it on the pictures left out."""
    spec = replace(packed.spec({**model, "seed": seed}), job_dir=packed.workspace.job(f"bench_{seed}").uri)
    labels = packed.pictures.pool.labels
    _, test = split_by_class(labels, seed)
    left_out = np.isin(np.arange(len(labels)), test)
    start = _cpu_seconds()
    with threadpool_limits(1):  # as in a job
        outputs, seconds = _answer(packed, spec, left_out, start)
    truth = labels[left_out]
    return Cell(
        accuracy=float((outputs.argmax(1) == truth).mean()),
        log_loss=log_loss(outputs, truth),
        ece=ece(outputs, truth),
        cpu=seconds,
    )


def _answer(packed: Packed, spec: TrainingSpec, left_out: Any, start: float) -> tuple[Any, float]:
    """Train; return the answers for the pictures left out, and the CPU seconds that training took."""
    storage, classes = packed.workspace.storage, packed.index.classes
    trains = packed.pictures.leave_out(left_out)
    if spec.finetuning is None:
        head = fit_head(spec, storage, classes, trains, cross_validates=False).head
        seconds = _cpu_seconds() - start
        return head.predict(packed.pictures.pool.features[left_out]), seconds
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        finetuned = finetune(spec, spec.finetuning, storage, classes, trains, Path(folder))
    seconds = _cpu_seconds() - start
    network = FrozenNetwork(find_backbone(packed.backbone), finetuned.weights, storage)
    pixels = packed.pixels[left_out]
    parts = [network(pixels[place : place + BATCH]) for place in range(0, len(pixels), BATCH)]
    storage.delete_tree(spec.job_dir)  # its weights, and checkpoints that a second run would go on from
    return finetuned.fitted.head.predict(np.concatenate(parts)), seconds


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def trainer_digest() -> str:
    """Return what names the code that trains: cells of other code are measured again."""
    return build_package().digest[:12]


def open_workspace(home: Path) -> Workspace:
    """Return the workspace of a folder."""
    return Workspace(Storage.from_environment({"GRAFT_HOME": str(home)}), BUCKET)
