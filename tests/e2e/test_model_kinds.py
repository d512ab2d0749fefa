"""Each kind of model through the DAG: served answers are those of the job, online and in batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.model_files import HEAD, TFLITE_NETWORK
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.tuning import Tuning
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.weights import read_weights
from pipeline.config import ModelConfig
from pipeline.config.network import NetworkConfig
from pipeline.npz import read_npz
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.submission.backbone import resolve_backbone, stage_backbone
from pipeline.tflite.head import head_of
from pipeline.tflite.network import TFLiteNetwork
from tests.e2e.conftest import ClassifierDag, Stack
from tests.fakes.extras import installed_extras
from tests.fakes.networks import save_application, save_lite0
from tests.fakes.onnx_networks import save_onnx_lite0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
KINDS: dict[str, dict[str, Any]] = {
    "logistic": {"head": {"type": "logistic"}},
    "lite2": {"backbone": "efficientnet_lite2"},
    "keras": {"backbone": {"keras": "net.keras"}},
    "onnx": {"backbone": {"onnx": "net.onnx"}},
    "application": {"backbone": {"application": "MobileNetV3Small", "weights": "w.h5"}},
    "tuned": {
        "tune": {
            "parameters": {
                "learning_rate": {"min": 1e-4, "max": 1e-2, "scale": "log"},
                "head.units": [32, 128],
                "class_weights": ["none", "balanced"],
            },
            "trials": 9,
            "parallel": 2,
        }
    },
    "last_block": {"finetune": {"blocks": 1, "epochs": 3}},
    "article": {"finetune": {"blocks": 0, "on": "pictures", "epochs": 3}},
}

# The weights of the application are random: Keras's own are not to be had without a network.
LEAST_ACCURACY = {"application": 0.4}
SAVED: dict[str, Callable[[Path, dict[str, Any]], dict[str, Any]]] = {
    "keras": lambda folder, weights: {"keras": str(save_lite0(folder / "net.keras", weights))},
    "onnx": lambda folder, weights: {
        "onnx": str(save_onnx_lite0(folder / "net.onnx", weights)),
        "scaling": {"mean": [127 / 255] * 3, "std": [128 / 255] * 3},
    },
    "application": lambda folder, _: {
        "application": "MobileNetV3Small",
        "weights": str(save_application(folder / "w.h5", "MobileNetV3Small")),
        "image_size": 96,
    },
}


def write_pictures(folder: Path) -> list[Path]:
    """Write six pictures of noise of several grains."""
    paths = []
    for number in range(6):
        random = np.random.default_rng(number)
        small = random.integers(0, 256, (8 * (number + 1), 60, 3), np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(small).resize((90, 120), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


def check_tuning(stack: Stack, model: ModelConfig, lineage: dict[str, Any], record: TrainingRecord) -> None:
    """Hold that a tuned head has the parameters of the best trial, and that the lineage names the study."""
    tuned = lineage["training"]["tuning"]
    assert (tuned is None) == (model.tune is None)
    if model.tune is None:
        return
    tuning = Tuning.read(stack.storage, tuned["uri"])
    assert len(tuning.judged) == model.tune.trials
    assert sum(tuning.importance.values()) == pytest.approx(1)
    losses = [trial.log_loss.value for trial in tuning.judged if trial.log_loss]
    assert (losses, tuned["value"]) == (sorted(losses), losses[0])
    best = {name.rpartition(".")[2]: value for name, value in tuning.best.parameters.items()}
    assert {name: record.parameters[name] for name in best} == best
    assert record.work.forwarded == 0, "the trials have cached the features"


@pytest.mark.parametrize("kind", KINDS)
def test_it_reaches_a_served_version_that_answers_as_it_was_trained(
    stack: Stack, tmp_path: Path, kind: str
) -> None:
    workspace = Workspace(stack.storage, "gs://graft")
    model = ModelConfig.model_validate(KINDS[kind])
    if kind in SAVED:
        staged = stage_backbone(workspace, ModelConfig())
        weights = read_weights(stack.storage.local_path(staged.uri), "efficientnet_lite0")
        own = NetworkConfig.model_validate(SAVED[kind](tmp_path, weights))
        model = model.model_copy(update={"backbone": own})
    elif kind == "lite2":  # whose weights do not come with the stack's environment
        with installed_extras(tmp_path / "extras", "efficientnet_lite2"):
            stage_backbone(workspace, model)
    source = {"type": "sample", "classes": ["brick", "grass", "gravel"]}
    name = f"kind_{kind}"
    yaml = model.model_dump(mode="json", exclude_unset=True)
    least = LEAST_ACCURACY.get(kind, 0.9)
    gate = {"min_accuracy": min(least, 0.8)}
    ClassifierDag(stack, {"name": name, "dataset": {"source": source}, "model": yaml, "gate": gate})
    result = stack.graft_json("run", name)  # its smoke test compares online answers with those in batch
    assert (result["state"], result["evaluation"]["accuracy"] > least) == ("success", True), result
    lineage = stack.graft_json("lineage", name)
    job, served_model = f"gs://graft/jobs/{lineage['training']['job']}", lineage["model_uri"]
    record = TrainingRecord.read(JobDirectory(stack.storage, job))
    check_tuning(stack, model, lineage, record)
    assert (record.finetune is not None) == (model.finetune is not None)
    assert (record.regularization is not None) == (record.parameters["head_type"] == "logistic")
    files = write_pictures(tmp_path)
    answered = stack.graft_json("predict", name, *map(str, files))
    spec = resolve_backbone(workspace, model).spec
    pixels = np.stack([resize_picture(decode_picture(file.read_bytes()), spec) for file in files])
    network = TFLiteNetwork(stack.storage.local_path(f"{served_model}/{TFLITE_NETWORK}"))
    head = head_of(read_npz(stack.storage.local_path(f"{served_model}/{HEAD}")))
    served = np.array([row["outputs"] for row in answered])
    assert np.ptp(served, 0).max() > 0.05, "the pictures must not all look the same to the model"
    np.testing.assert_allclose(served, head.predict(network.pool(pixels)), atol=1e-3)
    if model.tune or model.finetune:
        again = stack.graft_json("reproduce", name, lineage["version"])
        assert again["reproduced"] == again["recorded"]
