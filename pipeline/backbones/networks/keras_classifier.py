"""Writes a backbone and a trained head as one `.keras` file that Keras loads without code of Graft's.

`python -m pipeline.backbones.networks.keras_classifier BACKBONE WEIGHTS FOLDER` reads `head.npz` and
`pixels.npz` of the folder, and leaves there `model.keras` and `outputs.npz`: what the file, loaded again,
answers for these pixels. It is a process of its own because Keras takes a gigabyte and seconds to import.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from pipeline.backbones.networks.keras_model import build_keras_model
from pipeline.backbones.table import find_backbone
from pipeline.npz import read_npz, write_npz

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD, PIXELS = "head.npz", "pixels.npz"
MODEL, OUTPUTS = "model.keras", "outputs.npz"


def build_classifier(
    backbone: str, weights: Mapping[str, NDArray[np.float32]], head: Mapping[str, NDArray[np.float32]]
) -> keras.Model:
    """Return a Keras model from uint8 pixels to class probabilities.

    Args:
        backbone: A name of the table.
        weights: Of the backbone, as they are staged.
        head: The arrays of a trained head, dense or logistic.

    Shapes:
        input: (batch, height, width, 3) uint8.  output: (batch, classes) float32.
    """
    spec = find_backbone(backbone).spec
    pixels = keras.Input((spec.height, spec.width, 3), dtype="uint8", name="pixels")
    scaled = keras.layers.Rescaling(1 / spec.divisor, -spec.offset / spec.divisor, name="scaling")(pixels)
    features = build_keras_model(backbone, weights)(scaled)
    if "hidden_kernel" in head:
        hidden = _dense(head, "hidden", "relu")
        layers, entry = [hidden], hidden(features)
    else:
        layers, entry = [], keras.layers.UnitNormalization(name="units")(features)
    layers.append(_dense(head, "output", "softmax"))
    model = keras.Model(pixels, layers[-1](entry), name="classifier")
    for layer in layers:
        layer.set_weights([head[f"{layer.name}_kernel"], head[f"{layer.name}_bias"]])
    return model


def _dense(head: Mapping[str, NDArray[np.float32]], name: str, activation: str) -> keras.layers.Dense:
    return keras.layers.Dense(len(head[f"{name}_bias"]), activation=activation, name=name)


def main(backbone: str, weights: str, folder: str) -> None:
    """Write the file, load it again, and let it answer."""
    place = Path(folder)
    head: dict[str, NDArray[Any]] = read_npz(place / HEAD)
    build_classifier(backbone, read_npz(Path(weights)), head).save(place / MODEL)
    loaded = keras.saving.load_model(place / MODEL, compile=False, safe_mode=True)
    outputs = loaded.predict_on_batch(read_npz(place / PIXELS)["pixels"])
    (place / OUTPUTS).write_bytes(write_npz({"outputs": np.asarray(outputs, np.float32)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
