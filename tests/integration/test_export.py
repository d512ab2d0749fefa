"""A version as a zip for other programs: the same answers, by the program that comes with it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import InferenceSession
from PIL import Image

from pipeline.artifacts.model_files import CARD, HEAD, LABELS, TFLITE_MANIFEST
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError, TFLiteUnavailable
from pipeline.export import archive, onnx_file
from pipeline.export.archive import export_version
from pipeline.export.formats import ExportFormat
from pipeline.export.onnx_file import build_onnx_file
from pipeline.npz import write_npz
from pipeline.pixels.host import decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.tflite.head import Head, LogisticHead, TrainedHead
from pipeline.tflite.manifest import Parity, TFLiteManifest, check_tflite, digest_files
from pipeline.tflite.network import TFLiteModel
from tests.integration.tiny_heads import write_model

LABELS_OF = ["ant", "bee", "cat"]
SPEC = PixelSpec(height=9, width=8, offset=0, divisor=255)
# Every operation of the backbones: odd and even sizes, both paddings, strides, all activations.
CONVERT = """
import sys, numpy as np, tensorflow as tf

random = np.random.default_rng(0)

def constant(*shape):
    return tf.constant(random.normal(0, 0.5, shape).astype(np.float32))

def network(pixels):
    scaled = (tf.cast(pixels, tf.float32) - tf.constant([120., 127., 130.])) / 128
    wide = tf.nn.relu6(tf.nn.conv2d(scaled, constant(3, 3, 3, 4), 2, "SAME") + constant(4))
    deep = tf.nn.relu6(tf.nn.depthwise_conv2d(wide, constant(3, 3, 4, 1), (1, 1, 1, 1), "SAME") + constant(4))
    added = tf.nn.conv2d(deep, constant(1, 1, 4, 4), 1, "SAME") + wide
    plain = tf.nn.relu(tf.nn.conv2d(added, constant(2, 1, 4, 4), 1, "VALID") + constant(4))
    pools = tf.concat([tf.nn.max_pool2d(plain, 3, 1, "SAME"), tf.nn.avg_pool2d(plain, 3, 1, "SAME")], -1)
    maps = tf.nn.conv2d(pools, constant(1, 1, 8, 3), 1, "SAME")
    return tf.reduce_mean(maps, (1, 2)), maps

def unknown(pixels):
    pooled, maps = network(pixels)
    return tf.nn.elu(pooled), maps

for function, path in zip((network, unknown), sys.argv[1:]):
    traced = tf.function(function, input_signature=[tf.TensorSpec((None, 9, 8, 3), tf.uint8)])
    concrete = [traced.get_concrete_function()]
    open(path, "wb").write(tf.lite.TFLiteConverter.from_concrete_functions(concrete, tf.Module()).convert())
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A small network of the operations that backbones have, and one with another operation."""
    folder = tmp_path_factory.mktemp("network")
    paths = [folder / "network.tflite", folder / "unknown.tflite"]
    command = [sys.executable, "-c", CONVERT, *map(str, paths)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return [path.read_bytes() for path in paths]


@pytest.fixture
def network(networks: list[bytes]) -> bytes:
    return networks[0]


@pytest.fixture(params=["dense"])
def version(tmp_path: Path, network: bytes, request: pytest.FixtureRequest) -> Path:
    """The directory of a version, whose head depends on what it sees."""
    directory = tmp_path / "graft" / "models" / "m" / "v1"
    write_model(directory, network, 0)
    random = np.random.default_rng(1)
    head: TrainedHead = Head(
        hidden_kernel=random.normal(0, 3, (3, 4)).astype(np.float32),
        hidden_bias=random.normal(0, 1, 4).astype(np.float32),
        output_kernel=random.normal(0, 2, (4, 3)).astype(np.float32),
        output_bias=random.normal(0, 1, 3).astype(np.float32),
    )
    if request.param == "logistic":
        kernel = random.normal(0, 3, (3, 3)).astype(np.float32)
        head = LogisticHead(output_kernel=kernel, output_bias=head.output_bias)
    (directory / HEAD).write_bytes(write_npz(head.arrays()))
    (directory / LABELS).write_text(json.dumps(LABELS_OF))
    (directory / CARD).write_text("# m")
    (directory / "variables").mkdir()
    (directory / "variables" / "variables.index").write_bytes(b"not read")
    parity = Parity(pictures=1, largest_difference=2e-7)
    TFLiteManifest(
        files=digest_files(directory), spec=SPEC, reject_below=0.5, parity=parity, made_by={}
    ).write(directory)
    return directory


@pytest.fixture
def workspace(tmp_path: Path, version: Path) -> Workspace:
    return Workspace(Storage({"graft": tmp_path / "graft"}), "gs://graft")


def unpack(workspace: Workspace, folder: Path, format: ExportFormat) -> Path:
    made = export_version(workspace, model="m", version="v1", format=format, file=folder / "m.zip")
    assert made.num_bytes == (folder / "m.zip").stat().st_size
    with zipfile.ZipFile(folder / "m.zip") as zipped:
        zipped.extractall(folder / "out")
    return folder / "out"


@pytest.mark.parametrize("is_gray", [False, True], ids=["colours", "gray of 16 bits"])
@pytest.mark.parametrize("version", ["dense", "logistic"], indirect=True)
@pytest.mark.parametrize("format", [ExportFormat.TFLITE, ExportFormat.ONNX])
def test_the_program_in_the_zip_answers_as_the_version_does(
    workspace: Workspace, version: Path, tmp_path: Path, is_gray: bool, format: ExportFormat
) -> None:
    folder = unpack(workspace, tmp_path, format)
    random = np.random.default_rng(2)
    levels = random.integers(0, 65536, (37, 51), np.uint16)
    rgba = random.integers(0, 256, (37, 51, 4), np.uint8)
    Image.fromarray(levels if is_gray else rgba).save(folder / "photo.png")
    said = subprocess.run(
        [sys.executable, "predict.py", "photo.png"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    label, *probabilities = said.stdout.split()
    pixels = decode_resized((folder / "photo.png").read_bytes(), SPEC)[None]
    [expected] = TFLiteModel(version, check_tflite(version)).predict(pixels)
    assert np.abs(np.array(probabilities, np.float32) - expected).max() < 1e-3
    assert label == LABELS_OF[int(expected.argmax())]
    assert len(set(np.round(expected, 3))) > 1


def test_an_onnx_file_carries_its_labels_and_takes_any_number_of_pictures(
    workspace: Workspace, version: Path, tmp_path: Path
) -> None:
    folder = unpack(workspace, tmp_path, ExportFormat.ONNX)
    session = InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == LABELS_OF
    pixels = np.random.default_rng(3).integers(0, 256, (5, 9, 8, 3), np.uint8)
    [outputs] = session.run(["probabilities"], {"pixels": pixels})
    expected = TFLiteModel(version, check_tflite(version)).predict(pixels)
    assert np.abs(outputs - expected).max() < 1e-5


def test_an_operation_that_onnx_export_does_not_know_is_named(networks: list[bytes]) -> None:
    head = LogisticHead(output_kernel=np.ones((3, 3), np.float32), output_bias=np.zeros(3, np.float32))
    with pytest.raises(TFLiteUnavailable, match=r"operation ELU.*tflite or savedmodel"):
        build_onnx_file(networks[1], head, LABELS_OF, SPEC)


def test_an_onnx_export_without_its_packages_says_what_to_install(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'graft\[onnx\]'"):
        unpack(workspace, tmp_path, ExportFormat.ONNX)


def test_a_keras_export_needs_to_know_the_backbone(
    workspace: Workspace, version: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has no lineage"):
        unpack(workspace, tmp_path, ExportFormat.KERAS)


def test_a_zip_has_what_its_reader_needs_and_the_same_bytes_each_time(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = unpack(workspace, tmp_path, ExportFormat.TFLITE)
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "MODEL_CARD.md", "labels.json", "model.tflite", "pixels.json", "predict.py"}
    assert json.loads((folder / "pixels.json").read_text()) == SPEC.to_dict()
    about = (folder / "README.md").read_text()
    assert "m v1" in about
    assert "below the probability 0.5" in about
    first = (tmp_path / "m.zip").read_bytes()
    unpack(workspace, tmp_path, ExportFormat.TFLITE)
    assert (tmp_path / "m.zip").read_bytes() == first


def test_the_thresholds_of_classes_are_named_since_a_zip_does_not_apply_them(
    workspace: Workspace, version: Path, tmp_path: Path
) -> None:
    manifest = check_tflite(version)
    replace(manifest, thresholds={LABELS_OF[0]: 0.8}).write(version)
    about = (unpack(workspace, tmp_path, ExportFormat.TFLITE) / "README.md").read_text()
    assert f"below the probability 0.5 (0.8 for {LABELS_OF[0]}), or above" in about
    assert "This export does not do so by itself." in about


def test_the_saved_model_is_the_one_that_serves(workspace: Workspace, version: Path, tmp_path: Path) -> None:
    folder = unpack(workspace, tmp_path, ExportFormat.SAVEDMODEL)
    files = {path.relative_to(folder / "model").as_posix() for path in (folder / "model").rglob("*.*")}
    assert files == {"saved_model.pb", "variables/variables.index"}
    assert (folder / "model/saved_model.pb").read_bytes() == (version / "saved_model.pb").read_bytes()


def test_what_answers_otherwise_is_not_handed_out(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = archive.run_one_file
    monkeypatch.setattr(archive, "run_one_file", lambda data, pixels: right(data, pixels) + 0.01)
    with pytest.raises(TFLiteUnavailable, match="differs by 1.0e-02"):
        unpack(workspace, tmp_path, ExportFormat.TFLITE)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_damaged_version_is_refused_with_the_name_of_the_file(
    workspace: Workspace, version: Path, tmp_path: Path
) -> None:
    (version / HEAD).write_bytes((version / HEAD).read_bytes()[:-1] + b"x")
    with pytest.raises(TFLiteUnavailable, match=HEAD):
        unpack(workspace, tmp_path, ExportFormat.SAVEDMODEL)


def test_a_version_with_a_head_of_its_own_says_so(
    workspace: Workspace, version: Path, tmp_path: Path
) -> None:
    (version / TFLITE_MANIFEST).unlink()
    with pytest.raises(TFLiteUnavailable, match=r"head\.module"):
        unpack(workspace, tmp_path, ExportFormat.TFLITE)


def test_a_version_that_is_none_is_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no version v9"):
        export_version(
            workspace, model="m", version="v9", format=ExportFormat.TFLITE, file=tmp_path / "m.zip"
        )
