"""The blocks that fine-tuning counts."""

from __future__ import annotations

import pytest

from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.networks.blocks import list_blocks, trained_layers
from pipeline.backbones.table import BACKBONES


@pytest.mark.parametrize(
    ("backbone", "count", "layer", "shape"),
    [
        ("efficientnet_lite0", 16, "block15_expand", (7, 7, 192)),
        ("efficientnet_lite1", 21, "block20_expand", (8, 8, 192)),
        ("efficientnet_lite2", 21, "block20_expand", (9, 9, 208)),
        ("inception_v3", 11, "conv85", (8, 8, 2048)),
    ],
)
def test_every_backbone_has_blocks(
    backbone: str, count: int, layer: str, shape: tuple[int, int, int]
) -> None:
    blocks = list_blocks(backbone)
    assert (len(blocks), blocks[-1].layer, blocks[-1].shape) == (count, layer, shape)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_block_begins_with_a_convolution_of_its_channels(backbone: str) -> None:
    shapes = weight_shapes(backbone)
    for block in list_blocks(backbone):
        assert shapes[f"{block.layer}/kernel"][2] == block.shape[2]


def test_what_comes_after_the_last_block_is_trained_with_it() -> None:
    layers = ("block15_expand", "block15_depthwise", "block15_project", "head")
    assert trained_layers("efficientnet_lite0", 1) == layers


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_stem_is_trained_only_with_the_whole_network(backbone: str) -> None:
    every = trained_layers(backbone, None)
    blocks = trained_layers(backbone, len(list_blocks(backbone)))
    assert trained_layers(backbone, 0) == ()
    assert every[-len(blocks) :] == blocks
    assert len(every) == len({name.split("/")[0] for name in weight_shapes(backbone)}) > len(blocks)
