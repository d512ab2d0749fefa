"""`model.backbone` as a section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Classifier, parameter_value, read_classifier, with_params
from pipeline.config.network import NetworkConfig
from pipeline.errors import ConfigError


def classifier(backbone: Any, **model: Any) -> Classifier:
    source = {"source": {"type": "sample"}}
    return Classifier.from_dict({"name": "c", "dataset": source, "model": {"backbone": backbone, **model}})


def test_a_name_stays_a_name() -> None:
    model = classifier("inception_v3").model
    assert (model.backbone, model.backbone_name) == ("inception_v3", "inception_v3")


def test_a_file_gives_its_name_and_keeps_what_was_set() -> None:
    section = {"keras": "gs://nets/a/net.keras", "image_size": [96, 128], "scaling": "unit"}
    made = classifier(section)
    assert isinstance(made.model.backbone, NetworkConfig)
    assert (made.model.backbone_name, made.model.backbone.size) == ("net.keras", (96, 128))
    assert parameter_value(made, "model.backbone") == made.to_dict()["model"]["backbone"] == section
    assert Classifier.from_dict(made.to_dict()) == made


def test_one_side_is_that_of_a_square() -> None:
    assert NetworkConfig(keras="n.keras", image_size=160).size == (160, 160)


def test_a_run_may_choose_a_name_instead_of_the_file() -> None:
    own = classifier({"keras": "n.keras"})
    assert with_params(own, {"model.backbone": "inception_v3"}).model.backbone == "inception_v3"
    assert with_params(own, {"model.backbone": None}).model.backbone_name == "n.keras"


def test_a_relative_path_begins_at_the_yaml(tmp_path: Path) -> None:
    (tmp_path / "net.keras").touch()
    path = tmp_path / "c.yaml"
    path.write_text("name: c\ndataset: {source: {type: sample}}\nmodel: {backbone: {keras: net.keras}}\n")
    backbone = read_classifier(path).model.backbone
    assert isinstance(backbone, NetworkConfig)
    assert backbone.keras == str(tmp_path / "net.keras")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (5, r"`model.backbone` must be text"),
        ({}, r"`model.backbone`: a network of your own needs either `keras`"),
        ({"application": "VGG16"}, "`application` and `weights` belong together"),
        ({"application": "Vgg16", "weights": "w.h5"}, "network of `keras.applications`, for instance VGG16"),
        ({"application": "VGG16", "weights": "w.h5", "keras": "n"}, "needs either `keras`"),
        ({"kera": "n"}, r"unknown key `model.backbone.kera`.*did you mean `keras`"),
        ({"keras": "n", "scaling": "tf"}, r"`model.backbone.scaling` must be 'levels', 'unit'"),
        ({"keras": "n", "scaling": {"mean": [0, 0, 0], "std": [1, 1, 0]}}, r"scaling.std\[2\]` must be more"),
        ({"keras": "n", "image_size": [96, 96, 3]}, r"image_size` must be a list of at most 2"),
        ({"keras": "n", "image_size": 4}, r"image_size` must be at least 8"),
    ],
)
def test_what_is_wrong_is_named(backbone: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(backbone)


def test_weights_belong_to_a_name() -> None:
    with pytest.raises(ConfigError, match="remove `weights`"):
        classifier({"keras": "n.keras"}, weights="w.h5")
