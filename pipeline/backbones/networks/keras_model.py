"""A backbone as a Keras model, batch norm and all: for notebooks, and to compare the folded network with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import keras

from pipeline.backbones.networks.architectures import ARCHITECTURES, weight_shapes
from pipeline.backbones.networks.layers import BATCH_NORM_EPSILON
from pipeline.backbones.table import find_backbone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POOLED = "pooled"  # the layer that a new head is put on
_KERAS_NAMES = {"kernel": "kernel", "gamma": "gamma", "beta": "beta", "mean": "moving_mean"}
_KERAS_NAMES["variance"] = "moving_variance"


class _KerasLayers:
    """Layers of a functional Keras model, named like the weights.

    Args:
        scaled: Whether batch norm has a `gamma`.
    """

    def __init__(self, *, scaled: bool) -> None:
        self._scaled = scaled

    def _normalise(self, value: keras.KerasTensor, name: str, activation: str | None) -> keras.KerasTensor:
        norm = keras.layers.BatchNormalization(
            epsilon=BATCH_NORM_EPSILON, scale=self._scaled, name=f"{name}_norm"
        )
        value = norm(value)
        return value if activation is None else keras.layers.Activation(activation)(value)

    def conv(
        self,
        value: keras.KerasTensor,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> keras.KerasTensor:
        conv = keras.layers.Conv2D(
            filters, kernel, strides=strides, padding=padding, use_bias=False, name=name
        )
        return self._normalise(conv(value), name, activation)

    def depthwise(
        self, value: keras.KerasTensor, name: str, kernel: int, *, strides: int = 1
    ) -> keras.KerasTensor:
        conv = keras.layers.DepthwiseConv2D(
            kernel, strides=strides, padding="same", use_bias=False, name=name
        )
        return self._normalise(conv(value), name, "relu6")

    def max_pool(self, value: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.MaxPooling2D(3, strides=2)(value)

    def average_pool(self, value: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.AveragePooling2D(3, strides=1, padding="same")(value)

    def global_average(self, value: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.GlobalAveragePooling2D(name=POOLED)(value)

    def concat(self, values: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        return keras.layers.Concatenate()(list(values))

    def add(self, left: keras.KerasTensor, right: keras.KerasTensor) -> keras.KerasTensor:
        return keras.layers.Add()([left, right])


def build_keras_model(backbone: str, weights: Mapping[str, NDArray[np.float32]] | None = None) -> keras.Model:
    """Build the backbone as a Keras model from scaled pixels to pooled features.

    Args:
        backbone: A name of the table.
        weights: Arrays as `stage_weights` writes them; None leaves Keras's first ones.

    Shapes:
        input: (batch, height, width, 3) float32, `(pixels - offset) / divisor`.
    """
    spec, names = find_backbone(backbone).spec, weight_shapes(backbone)
    pixels = keras.Input((spec.height, spec.width, 3))
    layers = _KerasLayers(scaled=any(name.endswith("/gamma") for name in names))
    model = keras.Model(pixels, ARCHITECTURES[backbone](layers, pixels), name=backbone)
    if weights is not None:
        for name in names:
            _find_variable(model, name).assign(weights[name])
    return model


def read_keras_weights(model: keras.Model, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a model that `build_keras_model` made, by the names they are staged under."""
    return {name: _find_variable(model, name).numpy() for name in names}


def _find_variable(model: keras.Model, name: str) -> keras.Variable:
    layer, part = name.split("/")
    owner = model.get_layer(layer if part == "kernel" else f"{layer}_norm")
    variable: keras.Variable = getattr(owner, _KERAS_NAMES[part])
    return variable
