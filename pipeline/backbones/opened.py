"""A staged network, whatever kind it is, as what builds it for the constants it is given."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backbones.table import BACKBONES
from pipeline.backbones.weights import read_weights
from pipeline.npz import read_npz
from pipeline.pixels.spec import PixelSpec

if TYPE_CHECKING:
    from pipeline.backbones.networks.folded import MapBuilder


def open_network(path: Path, backbone: str, spec: PixelSpec) -> MapBuilder:
    """Return what builds a network from its staged weights.

    Args:
        path: Of the weights.
        backbone: Name of a row of the table, or of a network of the user's own.
        spec: The pixels it is fed.

    Raises:
        BadArchive: if the weights are not those of the backbone.
    """
    from pipeline.backbones.networks.folded import build_mapped_network  # TensorFlow takes seconds to import
    from pipeline.backbones.networks.frozen_graph import build_frozen_network

    if backbone in BACKBONES:
        return partial(build_mapped_network, backbone, read_weights(path, backbone))
    return partial(build_frozen_network, read_npz(path), spec)
