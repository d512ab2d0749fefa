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
from pipeline.config.network import NetworkConfig
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
