"""Reads backbone weights from Keras's HDF5 files, without Keras.

Three layouts are known: the legacy weights file (what Keras's host serves), the legacy whole model, and
Keras 3's `.weights.h5`. None carries names one can rely on: a layer is found by its kind and its number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.backbones.networks.architectures import weight_shapes
from pipeline.errors import WeightsMismatch

if TYPE_CHECKING:
    import h5py  # type: ignore[import-untyped]
    from numpy.typing import NDArray

_Arrays: TypeAlias = "list[NDArray[np.float32]]"  # of one layer

# `.weights.h5` numbers layers by their place in `model.layers`, which in InceptionV3 is not the order they
# were made in: the n-th convolution of the file is the one with this number.
# fmt: off
_INCEPTION_ORDER = (
    0, 1, 2, 3, 4, 8, 6, 9, 5, 7, 10, 11, 15, 13, 16, 12, 14, 17, 18, 22, 20, 23, 19, 21, 24, 25, 27, 28,
    26, 29, 34, 35, 31, 36, 32, 37, 30, 33, 38, 39, 44, 45, 41, 46, 42, 47, 40, 43, 48, 49, 54, 55, 51, 56,
    52, 57, 50, 53, 58, 59, 64, 65, 61, 66, 62, 67, 60, 63, 68, 69, 72, 73, 70, 74, 71, 75, 80, 77, 81, 78,
    79, 82, 83, 76, 84, 89, 86, 90, 87, 88, 91, 92, 85, 93,
)
# fmt: on
_KINDS = ("depthwise_conv2d", "conv2d", "batch_normalization")


def read_keras_file(path: Path, backbone: str) -> dict[str, NDArray[Any]]:
    """Return a backbone's weights by our names.

    Raises:
        WeightsMismatch: if the file is no HDF5 or has other layers than the backbone.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers, is_keras_3 = _read_layers(file), "layers" in file
    except OSError as error:
        raise WeightsMismatch(f"{path} cannot be read as HDF5: {error}.", path=str(path)) from error
    if is_keras_3 and backbone == "inception_v3":
        for kind in ("conv2d", "batch_normalization"):
            if len(layers[kind]) == len(_INCEPTION_ORDER):
                places = np.argsort(_INCEPTION_ORDER)
                layers[kind] = [layers[kind][place] for place in places]
    return _name_weights(layers, backbone, path)


def read_classifier_layer(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return kernel and bias of the last layer of a legacy Keras file, `predictions`.

    Raises:
        WeightsMismatch: if the file is no HDF5 or has no such layer.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if "predictions" in root:
                kernel, bias = _read_arrays(root["predictions"], keras_3=False)
                return kernel, bias
    except OSError as error:
        raise WeightsMismatch(f"{path} cannot be read as HDF5: {error}.", path=str(path)) from error
    raise WeightsMismatch(
        f"{path} has no layer `predictions`: it is a network without its classifier layer. Give a file saved "
        "with `include_top=True`.",
        path=str(path),
    )


def _read_layers(file: h5py.File) -> dict[str, list[_Arrays]]:
    """Return the arrays of each layer, by kind, in the order of the layers' numbers."""
    layout = "layers" if "layers" in file else "model_weights" if "model_weights" in file else "root"
    root = file if layout == "root" else file[layout]
    numbered: dict[str, list[tuple[int, _Arrays]]] = {kind: [] for kind in _KINDS}
    for name in root:
        match = re.fullmatch(r"(depthwise_conv2d|conv2d|batch_normalization)(?:_(\d+))?", name)
        if match:
            arrays = _read_arrays(root[name], keras_3=layout == "layers")
            numbered[match[1]].append((int(match[2] or 0), arrays))
    return {
        kind: [arrays for _, arrays in sorted(layers, key=lambda item: item[0])]
        for kind, layers in numbered.items()
    }


def _read_arrays(group: h5py.Group, *, keras_3: bool) -> _Arrays:
    if keras_3:
        return [group["vars"][str(index)][()] for index in range(len(group["vars"]))]
    names = [name.decode() if isinstance(name, bytes) else name for name in group.attrs["weight_names"]]
    return [group[name][()] for name in names]


def _name_weights(layers: Mapping[str, list[_Arrays]], backbone: str, path: Path) -> dict[str, NDArray[Any]]:
    queues = {kind: iter(arrays) for kind, arrays in layers.items()}
    shapes = weight_shapes(backbone)
    arrays: dict[str, NDArray[Any]] = {}
    for layer in dict.fromkeys(name.split("/")[0] for name in shapes):
        kind = "depthwise_conv2d" if layer.endswith("depthwise") else "conv2d"
        gamma = ("gamma",) if f"{layer}/gamma" in shapes else ()
        parts = ("kernel", *gamma, "beta", "mean", "variance")
        values = next(queues[kind], []) + next(queues["batch_normalization"], [])
        if len(values) != len(parts):
            raise WeightsMismatch(
                f"{path} does not hold the layers of {backbone}: {layer} needs {len(parts)} arrays, "
                f"found {len(values)}.",
                path=str(path),
            )
        arrays.update({f"{layer}/{part}": value for part, value in zip(parts, values, strict=True)})
    return arrays
