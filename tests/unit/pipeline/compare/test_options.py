from __future__ import annotations

from typing import Any

import pytest

from pipeline.compare.options import MAX_OPTIONS, Option, available_backbones, make_options
from pipeline.config import Classifier
from pipeline.errors import ConfigError
from tests.fakes.pictures import storage_in
from tests.fakes.rows import workspace_of

BACKBONES, HEADS = ("efficientnet_lite0", "efficientnet_lite2"), ("dense", "logistic")


def classifier(**model: Any) -> Classifier:
    source = {"type": "folder", "uri": "/pictures"}
    return Classifier.from_dict({"name": "toys", "dataset": {"source": source}, "model": model})


def options(
    made: Classifier, backbones: Any = BACKBONES, heads: Any = HEADS, **grid: list[Any]
) -> list[Option]:
    return make_options(made, backbones=backbones, heads=heads, grid=grid)


def test_they_are_the_present_model_and_every_other_combination() -> None:
    made = options(classifier())
    assert [(option.name, option.parameters) for option in made] == [
        ("efficientnet_lite0 dense", {}),
        ("efficientnet_lite0 logistic", {"model.head.type": "logistic"}),
        ("efficientnet_lite2 dense", {"model.backbone": "efficientnet_lite2"}),
        (
            "efficientnet_lite2 logistic",
            {"model.backbone": "efficientnet_lite2", "model.head.type": "logistic"},
        ),
    ]


def test_the_present_model_is_compared_where_the_command_does_not_name_it() -> None:
    made = options(classifier(head={"type": "logistic"}), ["efficientnet_lite2"], ["dense"])
    assert [option.name for option in made] == ["efficientnet_lite0 logistic", "efficientnet_lite2 dense"]


def test_a_value_that_is_there_already_or_that_a_head_has_no_use_for_makes_no_other_option() -> None:
    made = options(classifier(), ["efficientnet_lite0"], HEADS, epochs=[5, 20], units=[1024])
    names = [option.name for option in made]
    assert names == [
        "efficientnet_lite0 dense",
        "efficientnet_lite0 dense epochs=5",
        "efficientnet_lite0 logistic",
    ]


def test_seeds_of_two_sections_have_names_of_their_own() -> None:
    made = options(classifier(), [], [], **{"model.seed": [1], "augmentation.seed": [1]})
    assert made[1].name == "efficientnet_lite0 dense seed=1 augmentation.seed=1"


def test_weights_of_ones_own_are_those_of_their_backbone_only() -> None:
    made = options(classifier(weights="/own.npz"), heads=[])
    assert made[1].parameters == {"model.backbone": "efficientnet_lite2", "model.weights": "imagenet"}


def test_another_head_takes_the_place_of_a_module_and_begins_anew() -> None:
    module = options(classifier(head={"module": "/head.py"}), [], ["dense"])
    assert module[1].classifier.model.head.kind == "dense"
    warm = options(classifier(warm_start=True), [], ["logistic"])
    assert not warm[1].classifier.model.warm_start


def test_no_option_begins_from_the_head_that_serves() -> None:
    (present,) = options(classifier(warm_start=True), [], [])
    assert present.training_spec(pack_index="p", weights="w", workspace="u", module="").warm_start == ""


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"epochs": [0]}, r"model\.epochs"),
        ({"epoch": [1]}, r"unknown parameter `epoch` .did you mean `epochs`"),
        ({"min_accuracy": [0.5]}, r"`gate\.min_accuracy` cannot be compared"),
        ({"backbone": ["inception_v3"]}, r"`model\.backbone` cannot be compared.*--backbone"),
        ({"warm_start": [True]}, r"`model\.warm_start` cannot be compared"),
        ({"units": [*range(1, MAX_OPTIONS + 2)]}, "more than 100 options"),
    ],
)
def test_what_no_model_can_have_is_named(grid: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(classifier(), [], [], **grid)


def test_backbones_without_weights_here_are_left_out(tmp_path: Any) -> None:
    made = available_backbones(workspace_of(storage_in(tmp_path)))
    assert "efficientnet_lite0" in made
    assert "inception_v3" not in made
