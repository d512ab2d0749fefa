"""Each kind of model through the DAG: served answers are those of the job, online and in batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.tuning import Tuning
from pipeline.backbones.weights import read_weights
from pipeline.config import ModelConfig
from pipeline.config.network import NetworkConfig
from pipeline.submission.backbone import stage_backbone
from tests.e2e.conftest import ClassifierDag, Stack
from tests.e2e.model_kinds import Served, check_served, stage_extra, workspace_of
from tests.fakes.networks import save_application, save_keras_network, save_lite0
from tests.fakes.onnx_networks import save_convolutional, save_onnx_lite0
from tests.fakes.pictures import save_blots

pytestmark = pytest.mark.timeout(1800)
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


def check_tuning(stack: Stack, model: ModelConfig, served: Served) -> None:
    """Hold that a tuned head has the parameters of the best trial, and that the lineage names the study."""
    tuned = served.lineage["training"]["tuning"]
    assert (tuned is None) == (model.tune is None)
    if model.tune is None:
        return
    tuning = Tuning.read(stack.storage, tuned["uri"])
    assert len(tuning.judged) == model.tune.trials
    assert sum(tuning.importance.values()) == pytest.approx(1)
    losses = [trial.log_loss.value for trial in tuning.judged if trial.log_loss]
    assert (losses, tuned["value"]) == (sorted(losses), losses[0])
    best = {name.rpartition(".")[2]: value for name, value in tuning.best.parameters.items()}
    assert {name: served.record.parameters[name] for name in best} == best
    assert served.record.work.forwarded == 0, "the trials have cached the features"


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_it_reaches_a_served_version_that_answers_as_it_was_trained(
    stack: Stack, tmp_path: Path, kind: str
) -> None:
    model = ModelConfig.model_validate(KINDS[kind])
    if kind in SAVED:
        staged = stage_backbone(workspace_of(stack), ModelConfig())
        weights = read_weights(stack.storage.local_path(staged.uri), "efficientnet_lite0")
        own = NetworkConfig.model_validate(SAVED[kind](tmp_path, weights))
        model = model.model_copy(update={"backbone": own})
    elif kind == "lite2":
        stage_extra(stack, model, tmp_path / "extras")
    source = {"type": "sample", "classes": ["brick", "grass", "gravel"]}
    name = f"kind_{kind}"
    yaml = model.model_dump(mode="json", exclude_unset=True)
    least = LEAST_ACCURACY.get(kind, 0.9)
    gate = {"min_accuracy": min(least, 0.8)}
    ClassifierDag(stack, {"name": name, "dataset": {"source": source}, "model": yaml, "gate": gate})
    result = stack.graft_json("run", name)
    assert (result["state"], result["evaluation"]["accuracy"] > least) == ("success", True), result
    served = check_served(stack, name, model, tmp_path)
    check_tuning(stack, model, served)
    if model.tune or model.finetune:
        again = stack.graft_json("reproduce", name, served.lineage["version"])
        assert again["reproduced"] == again["recorded"]


def small_kinds(folder: Path) -> dict[str, ModelConfig]:
    """Return small models of the kinds that no other test of the stack takes through the DAG."""
    scaling = {"mean": [0.5] * 3, "std": [0.5] * 3}
    values: dict[str, dict[str, Any]] = {
        "keras": {"backbone": {"keras": str(save_keras_network(folder / "net.keras"))}},
        "onnx": {"backbone": {"onnx": str(save_convolutional(folder / "net.onnx")), "scaling": scaling}},
        "article": {"finetune": {"blocks": 0, "on": "pictures", "epochs": 1}},
    }
    return {kind: ModelConfig.model_validate({"epochs": 30} | value) for kind, value in values.items()}


def test_small_ones_reach_served_versions_at_once(stack: Stack, tmp_path: Path) -> None:
    """Nothing is said of their accuracy: the networks are random, and a few pictures are seen once."""
    for number in range(48):
        label = ("blue", "red")[number % 2]
        save_blots(tmp_path / "pictures" / label / f"{number}.png", label, number)
    source = {"type": "folder", "uri": str(tmp_path / "pictures")}
    models = small_kinds(tmp_path)
    for kind, model in models.items():
        gate = {"min_accuracy": 0, "defaults": {"informative": "off"}}
        yaml = model.model_dump(mode="json", exclude_unset=True)
        name = f"small_{kind}"
        ClassifierDag(stack, {"name": name, "dataset": {"source": source}, "model": yaml, "gate": gate})
    with ExitStack() as started:
        runs = {
            kind: started.enter_context(stack.start_graft("run", f"small_{kind}", "--json"))
            for kind in models
        }
        results = {kind: json.loads(run.communicate(timeout=600)[0]) for kind, run in runs.items()}
    states = {kind: result.get("state", result) for kind, result in results.items()}
    assert states == dict.fromkeys(models, "success")
    for kind, model in models.items():
        (tmp_path / kind).mkdir()
        check_served(stack, f"small_{kind}", model, tmp_path / kind)
