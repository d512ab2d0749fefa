"""The weights of a backbone as they are staged: a pickle-free NPZ with an array for each name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.backbones.table import Backbone
from pipeline.errors import WeightsMismatch
from pipeline.npz import ArraySpec, read_npz

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_weights(data: Path | bytes, backbone: str) -> dict[str, NDArray[Any]]:
    """Read staged weights, checking every name and shape.

    Raises:
        BadArchive: if the file is no such NPZ.
    """
    schema = {
        name: ArraySpec(kinds="f", shape=shape, itemsize=4) for name, shape in weight_shapes(backbone).items()
    }
    return read_npz(data, schema)


def check_weights(arrays: Mapping[str, NDArray[Any]], backbone: Backbone) -> dict[str, NDArray[Any]]:
    """Return a backbone's weights, nothing else, as float32.

    Raises:
        WeightsMismatch: if one is missing or has another shape.
    """
    for name, shape in weight_shapes(backbone.name).items():
        received = arrays[name].shape if name in arrays else "nothing"
        if received != shape:
            raise WeightsMismatch(
                f"These are not weights of {backbone.name}: `{name}` must have the shape {shape}. "
                f"Received: {received}",
                backbone=backbone.name,
                array=name,
            )
    return {name: np.ascontiguousarray(arrays[name], np.float32) for name in weight_shapes(backbone.name)}
