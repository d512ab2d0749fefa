from __future__ import annotations

import re

import pytest

from pipeline.backbones.networks.architectures import ARCHITECTURES, weight_shapes
from pipeline.backbones.table import BACKBONES, find_backbone
from pipeline.errors import UnknownBackbone


def test_unknown_backbone_lists_the_known_ones() -> None:
    with pytest.raises(UnknownBackbone, match="'vgg'; set .* efficientnet_lite0, inception_v3"):
        find_backbone("vgg")


def test_every_row_has_an_architecture_and_a_pinned_digest() -> None:
    assert set(BACKBONES) == set(ARCHITECTURES)
    for name, row in BACKBONES.items():
        assert row.name == name
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", row.weights_digest)


@pytest.mark.parametrize(
    ("name", "layers", "numbers"), [("efficientnet_lite0", 49, 3_413_024), ("inception_v3", 94, 21_802_784)]
)
def test_architectures_have_the_published_number_of_weights(name: str, layers: int, numbers: int) -> None:
    shapes = weight_shapes(name)
    total = 0
    for shape in shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    assert total == numbers
    assert sum(key.endswith("/kernel") for key in shapes) == layers
