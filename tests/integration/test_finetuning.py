"""Fine-tuning by Keras, on a small network: what is trained, and what a killed job's successor does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.artifacts.training import HeadParameters
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.architectures import ARCHITECTURES, weight_shapes
from pipeline.backbones.networks.efficientnet_lite import EfficientNetLite
from pipeline.backbones.networks.folded import build_mapped_network
from pipeline.backbones.table import BACKBONES, Backbone
from pipeline.errors import TrainingDiverged
from pipeline.pages.progress import read_epochs
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.trainer.finetune_checkpoint import Checkpoint, CheckpointStore
from pipeline.trainer.finetune_fit import Fit, Fitted, fit_model
from pipeline.trainer.finetune_model import FinetuneModel, LowerNetwork
from pipeline.trainer.head import initial_head

SPEC = PixelSpec(height=16, width=16, offset=127.0, divisor=128.0)
PARAMETERS = FinetuneParameters(blocks=1, on="maps", epochs=3, learning_rate=0.01, augments=False)
FIT = HeadParameters(epochs=3, batch_size=4, learning_rate=0.01, units=6)
LABELS = np.arange(10) % 2


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    row = replace(BACKBONES["efficientnet_lite0"], name="tiny_lite", spec=SPEC)
    monkeypatch.setitem(BACKBONES, row.name, row)
    monkeypatch.setitem(ARCHITECTURES, row.name, EfficientNetLite(width=0.1, depth=0.2))
    return row


@pytest.fixture
def weights(backbone: Backbone) -> dict[str, Any]:
    random = np.random.default_rng(0)

    def draw(name: str, shape: tuple[int, ...]) -> Any:
        is_kernel = name.endswith("kernel")
        return random.normal(0, 0.5, shape) if is_kernel else random.uniform(0.5, 1, shape)

    shapes = weight_shapes(backbone.name)
    return {name: draw(name, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def pixels() -> Any:
    random = np.random.default_rng(1)
    return (random.integers(0, 120, (10, 16, 16, 3)) + 100 * LABELS[:, None, None, None]).astype(np.uint8)


def build(backbone: Backbone, weights: dict[str, Any], parameters: FinetuneParameters) -> FinetuneModel:
    return FinetuneModel(backbone, weights, initial_head(1280, 2, units=6, seed=0), parameters, seed=3)


def fit(model: FinetuneModel, inputs: Any, store: CheckpointStore, **changes: Any) -> Fitted:
    told = Fit(
        inputs=inputs,
        labels=LABELS,
        rows=np.arange(8),
        judges=np.arange(8, 10),
        chooses=False,
        parameters=replace(FIT, **changes),
        num_classes=2,
        place=(2, 2),
    )
    return fit_model(model, told, store)


def store(workspace: Workspace, job: str, digest: str = "work") -> CheckpointStore:
    return CheckpointStore(workspace, workspace.job(job), digest=digest, stage="kept")


class KilledAfter(CheckpointStore):
    """Ends the training after an epoch, as a killed process does: its checkpoint is there."""

    epoch = 2

    def write(self, checkpoint: Checkpoint) -> None:
        super().write(checkpoint)
        if checkpoint.epochs == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path / "bucket"}), "gs://graft")


def test_the_last_block_is_trained_on_maps_and_what_lies_below_stays(
    backbone: Backbone, weights: dict[str, Any], pixels: Any, workspace: Workspace
) -> None:
    maps = LowerNetwork(backbone, weights, 1)(pixels)
    model = build(backbone, weights, PARAMETERS)
    begin = model.head()
    fitted = fit(model, maps, store(workspace, "a"), class_weights="balanced", learning_rate=0.0005)
    assert sorted(fitted.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    changed = {name for name, array in model.weights().items() if not np.array_equal(array, weights[name])}
    assert {name.partition("_")[0].partition("/")[0] for name in changed} == {"block06", "head"}
    assert {name.partition("/")[2] for name in changed} == {"kernel"}, "batch norm must stay as it came"
    assert not np.array_equal(model.head().hidden_kernel, begin.hidden_kernel)
    exported = build_mapped_network(backbone.name, model.weights())(pixels)[0].numpy()
    np.testing.assert_allclose(model.pool(maps), exported, atol=1e-4 * np.abs(exported).max())


def test_a_successor_goes_on_after_the_last_epoch_and_ends_with_the_same_weights(
    backbone: Backbone, weights: dict[str, Any], pixels: Any, workspace: Workspace
) -> None:
    parameters = replace(PARAMETERS, on="pictures", augments=True)
    whole = build(backbone, weights, parameters)
    fitted = fit(whole, pixels, store(workspace, "whole", digest="other"))
    killed = KilledAfter(workspace, workspace.job("killed"), digest="work", stage="kept")
    with pytest.raises(KeyboardInterrupt):
        fit(build(backbone, weights, parameters), pixels, killed)
    resumed = build(backbone, weights, parameters)
    again = fit(resumed, pixels, store(workspace, "resumed"))
    assert again.resumed_after == 2
    assert again.history == fitted.history
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(resumed.weights()[name], array)
    np.testing.assert_array_equal(resumed.head().output_kernel, whole.head().output_kernel)


def test_each_epoch_is_a_line_of_the_log_that_pages_read(
    backbone: Backbone,
    weights: dict[str, Any],
    pixels: Any,
    workspace: Workspace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    maps = LowerNetwork(backbone, weights, 1)(pixels)
    with caplog.at_level("INFO"):
        fit(build(backbone, weights, PARAMETERS), maps, store(workspace, "a"))
    progress = read_epochs(caplog.text)
    assert progress is not None
    assert (progress.done, progress.total) == (3, 3)
    assert re.fullmatch(r"epoch 3 of 3, training 2 of 2: loss \d\.\d{4}, accuracy .*", progress.text)


def test_a_loss_that_is_no_number_names_the_rate(
    backbone: Backbone, weights: dict[str, Any], pixels: Any, workspace: Workspace
) -> None:
    model = build(backbone, weights, replace(PARAMETERS, blocks=0, on="pictures"))
    model.set_head(replace(model.head(), output_bias=np.array([np.nan, 0], np.float32)))
    with pytest.raises(TrainingDiverged, match=r"lower `model\.finetune\.learning_rate`"):
        fit(model, pixels, store(workspace, "a"))


def test_a_damaged_checkpoint_is_not_gone_on_from(workspace: Workspace) -> None:
    first, second = store(workspace, "a"), store(workspace, "b")
    assert first.find() is None
    arrays = [np.arange(3.0), np.array(7)]
    first.write(Checkpoint(history={"loss": [1.0]}, now=arrays, best=arrays[:1]))
    found = second.find()
    assert found is not None
    assert (found.epochs, found.has_ended) == (1, False)
    for array, expected in zip([*found.now, *found.best], [*arrays, arrays[0]], strict=True):
        np.testing.assert_array_equal(array, expected)
    uri = workspace.job("a").checkpoint("kept")
    workspace.storage.write_bytes(uri, workspace.storage.read_bytes(uri)[:-40])
    assert second.find() is None
