"""A network of the user's own: what is found in its file, what is refused, and a job that trains on it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.networks.keras_application import MODULE_SCALINGS, module_of
from pipeline.backbones.networks.scaling import SCALINGS
from pipeline.backbones.opened import open_network
from pipeline.config.network import APPLICATIONS, NetworkConfig
from pipeline.errors import NetworkRefused, UnknownBackbone
from pipeline.npz import read_npz
from pipeline.pixels.host import resize_picture
from pipeline.storage import Storage
from pipeline.submission import network_import, staged_network
from pipeline.submission.staged_network import stage_network
from pipeline.tflite.head import head_of
from pipeline.tflite.manifest import check_tflite
from pipeline.tflite.network import TFLiteModel
from pipeline.trainer import parts, template_export
from tests.fakes.networks import save_keras_network
from tests.integration.trainer_pack import pack_pictures, run_job, tiny_pictures

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Children run in this process: each would import TensorFlow once more."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, network_import.main(Path(command[-1])), "", "")

    monkeypatch.setattr(staged_network.subprocess, "run", run)
    return Workspace(Storage({"graft": tmp_path / "bucket"}), "gs://graft")


def stage(workspace: Workspace, path: Path, **options: Any) -> NetworkRecord:
    staged = stage_network(workspace, NetworkConfig(keras=str(path), **options))
    return NetworkRecord.read(workspace, staged.weights.digest)


class TestWhatIsFound:
    def test_the_pooled_output_of_a_whole_network_is_what_its_classes_are_fed(
        self, workspace: Workspace, folder: Path
    ) -> None:
        record = stage(workspace, save_keras_network(folder / "classes.keras", classes=7))
        assert (record.output, record.feature_width, record.has_map) == ("pool", 48, True)
        assert (record.height, record.width) == (32, 32)
        assert record.largest_difference < 1e-5

    def test_size_and_scaling_that_the_file_leaves_open_are_named(
        self, workspace: Workspace, folder: Path
    ) -> None:
        path = save_keras_network(folder / "open.keras", size=None, rescales=False)
        record = stage(workspace, path, image_size=[24, 40], scaling="caffe")
        assert (record.height, record.width) == (24, 40)

    def test_the_same_file_is_read_once(
        self, workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = NetworkConfig(keras=str(save_keras_network(folder / "once.keras")))
        staged = stage_network(workspace, network)
        monkeypatch.setattr(staged_network.subprocess, "run", None)
        assert stage_network(workspace, network) == staged


class TestApplications:
    NAME = "MobileNetV3Small"

    @pytest.mark.soak
    @pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
    @pytest.mark.parametrize("whole", [False, True])
    def test_weights_are_read_with_and_without_the_classifier_layer(
        self, workspace: Workspace, folder: Path, whole: bool, suffix: str
    ) -> None:
        keras.utils.set_random_seed(1)
        top: Any = {"include_top": True} if whole else {"include_top": False, "pooling": "avg"}
        model = keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3), **top)
        path = folder / f"mobile{whole}{suffix}"
        write = model.save_weights if suffix == ".weights.h5" else model.save
        write(path)
        network = NetworkConfig(application=self.NAME, weights=str(path), image_size=32)
        staged = stage_network(workspace, network)
        record = NetworkRecord.read(workspace, staged.weights.digest)
        assert (record.name, record.feature_width, record.has_map) == (self.NAME, 576, True)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        pool = next(
            layer for layer in reversed(model.layers) if "global_average" in layer.name or "avg" in layer.name
        )
        expected = keras.Model(model.inputs, pool.output).predict(pixels.astype(np.float32), verbose=0)
        network = open_network(
            workspace.storage.local_path(staged.weights.uri), self.NAME, staged.backbone.spec
        )()
        np.testing.assert_allclose(network(pixels)[0], expected.reshape(2, -1), rtol=1e-3, atol=1e-5)

    @pytest.mark.soak
    def test_weights_of_another_network_are_refused(self, workspace: Workspace, folder: Path) -> None:
        other = keras.saving.load_model(save_keras_network(folder / "other.keras"))
        other.save_weights(folder / "other.weights.h5")
        network = NetworkConfig(
            application=self.NAME, weights=str(folder / "other.weights.h5"), image_size=32
        )
        with pytest.raises(NetworkRefused, match="does not hold the weights of MobileNetV3Small, neither"):
            stage_network(workspace, network)
        (folder / "text.h5").write_text("no weights")
        with pytest.raises(NetworkRefused, match="it is no HDF5 file"):
            stage_network(workspace, NetworkConfig(application="VGG16", weights=str(folder / "text.h5")))

    def test_every_network_of_keras_has_a_scaling(self) -> None:
        names = [name for name in dir(keras.applications) if name[0].isupper()]
        assert tuple(names) == APPLICATIONS
        modules = {module_of(getattr(keras.applications, name)) for name in names}
        assert modules == MODULE_SCALINGS.keys()
        assert set(MODULE_SCALINGS.values()) <= SCALINGS.keys()

    @pytest.mark.parametrize("module", sorted(MODULE_SCALINGS))
    def test_a_scaling_is_what_keras_preprocesses_with(self, module: str) -> None:
        levels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
        expected = getattr(keras.applications, module).preprocess_input(levels.astype(np.float32))
        ours = SCALINGS[MODULE_SCALINGS[module]].apply(levels)
        np.testing.assert_allclose(ours, expected, atol=2e-3)


class TestRefusal:
    @pytest.mark.parametrize(
        ("made", "options", "message"),
        [
            ({"pools": False}, {}, r"no pooled output: that of 'activation\w*' is \(None, 4, 4, 48\)"),
            ({"channels": 1, "rescales": False}, {}, "its input has 1 channels"),
            ({"rescales": False}, {}, "Set `scaling` to what it was trained on: levels, unit"),
            ({"size": None}, {}, "set `image_size`"),
            ({}, {"image_size": 64}, "its input is 32 x 32 pixels. Remove `image_size`"),
            ({}, {"output": "pol"}, "it has no layer 'pol'; set `output` to the name of a layer: pool"),
        ],
    )
    def test_names_what_to_change(
        self, workspace: Workspace, folder: Path, made: Any, options: Any, message: str
    ) -> None:
        path = save_keras_network(folder / "bad.keras", **made)
        with pytest.raises(NetworkRefused, match=message):
            stage(workspace, path, **options)

    def test_of_code_and_of_half_a_file_needs_no_keras(
        self, workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(staged_network.subprocess, "run", None)
        whole = save_keras_network(folder / "whole.keras")
        model = keras.saving.load_model(whole)
        doubled = keras.layers.Lambda(lambda value: value * 2)(model.output)
        keras.Model(model.input, doubled).save(folder / "lambda.keras")
        (folder / "half.keras").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(NetworkRefused, match="Lambda runs a program of its own; use layers of Keras"):
            stage(workspace, folder / "lambda.keras")
        with pytest.raises(NetworkRefused, match="it is truncated, or no `.keras` file"):
            stage(workspace, folder / "half.keras")
        with pytest.raises(NetworkRefused, match=r"none.keras cannot be a backbone: it cannot be read"):
            stage(workspace, folder / "none.keras")

    def test_a_job_names_a_network_that_was_never_staged(self, workspace: Workspace) -> None:
        storage = workspace.storage
        arguments = ["--pack-index", "gs://graft/p.json", "--weights", "gs://graft/weights/abc"]
        arguments += [
            "--backbone",
            "net.keras",
            "--workspace",
            "gs://graft",
            "--job-dir",
            "gs://graft/jobs/1",
        ]
        with pytest.raises(UnknownBackbone, match="no backbone 'net.keras'"):
            run_job(storage, arguments)


def test_a_version_answers_as_the_network_and_the_trained_head(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_run", template_export.main)  # otherwise a process that imports TensorFlow
    path = save_keras_network(folder / "net.keras")
    staged = stage_network(workspace, NetworkConfig(keras=str(path)))
    pictures, labels = tiny_pictures(12)
    index = pack_pictures(workspace.storage, pictures, labels, staged.backbone.spec)
    arguments = ["--pack-index", index, "--weights", staged.weights.uri, "--backbone", staged.backbone.name]
    arguments += ["--workspace", "gs://graft", "--job-dir", "gs://graft/jobs/1", "--units", "16"]
    arguments += ["--calibration", "none", "--learning-rate", "0.03"]
    record = run_job(workspace.storage, arguments)
    assert record.tensorflow == ("There is no template of these labels, units and versions yet",)
    assert record.parameters["backbone"] == "net.keras"
    model = workspace.storage.local_path("gs://graft/jobs/1/model/saved_model.pb").parent
    pixels = np.stack([resize_picture(picture, staged.backbone.spec) for picture in pictures])
    features = keras.saving.load_model(path).predict(pixels.astype(np.float32), verbose=0)
    expected = head_of(read_npz(model / "graft" / "head.weights.npz")).predict(features)
    assert np.ptp(expected, 0).max() > 0.05
    served = TFLiteModel(model, check_tflite(model))
    outputs, explanation = served.explain(pixels)
    np.testing.assert_allclose(outputs, expected, atol=1e-3)
    assert explanation.activation.shape == (12, 4, 4)
