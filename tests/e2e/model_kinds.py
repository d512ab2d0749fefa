"""What every kind of model must hold once a run of the DAG has deployed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.model_files import HEAD, TFLITE_NETWORK
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.config import ModelConfig
from pipeline.npz import read_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.submission.backbone import resolve_backbone, stage_backbone
from pipeline.tflite.head import head_of
from pipeline.tflite.network import TFLiteNetwork
from tests.e2e.conftest import Stack
from tests.fakes.extras import installed_extras
from tests.fakes.pictures import save_blots

TOLERANCE = 1e-3  # between what is served and what was trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a run left behind.

    Args:
        lineage: What `graft lineage` tells of the version that serves.
        record: The record of its training job.
    """

    lineage: dict[str, Any]
    record: TrainingRecord


def workspace_of(stack: Stack) -> Workspace:
    return Workspace(stack.storage, "gs://graft")


def stage_extra(stack: Stack, model: ModelConfig, folder: Path) -> None:
    """Stage the weights of a larger backbone, whose package is not in the stack's environment."""
    with installed_extras(folder, str(model.backbone)):
        stage_backbone(workspace_of(stack), model)


def write_pictures(folder: Path) -> list[Path]:
    """Write six pictures of noise of several grains, and a red and a blue one."""
    paths = [folder / "red.png", folder / "blue.png"]
    for path in paths:
        save_blots(path, path.stem, 9001)
    for number in range(6):
        random = np.random.default_rng(number)
        small = random.integers(0, 256, (8 * (number + 1), 60, 3), np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(small).resize((90, 120), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


def check_served(stack: Stack, name: str, model: ModelConfig, folder: Path) -> Served:
    """Hold that a classifier serves a model of this kind, which answers online as it was trained.

    The run's own smoke test has compared the answers online with those in batch.
    """
    lineage = stack.graft_json("lineage", name)
    job, served_model = f"gs://graft/jobs/{lineage['training']['job']}", lineage["model_uri"]
    record = TrainingRecord.read(JobDirectory(stack.storage, job))
    assert (record.finetune is not None) == (model.finetune is not None)
    assert (record.regularization is not None) == (record.parameters["head_type"] == "logistic")
    files = write_pictures(folder)
    answered = stack.graft_json("predict", name, *map(str, files))
    spec = resolve_backbone(workspace_of(stack), model).spec
    pixels = np.stack([resize_picture(decode_picture(file.read_bytes()), spec) for file in files])
    network = TFLiteNetwork(stack.storage.local_path(f"{served_model}/{TFLITE_NETWORK}"))
    head = head_of(read_npz(stack.storage.local_path(f"{served_model}/{HEAD}")))
    served = np.array([row["outputs"] for row in answered])
    assert np.ptp(served, 0).max() > 0.05, "the pictures must not all look the same to the model"
    np.testing.assert_allclose(served, head.predict(network.pool(pixels)), atol=TOLERANCE)
    return Served(lineage=lineage, record=record)
