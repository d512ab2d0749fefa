"""A backbone as plain TensorFlow operations on constants, batch norm folded into the convolutions.

This is what jobs run and what is exported: there is no variable to freeze and no Keras model to trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.architectures import ARCHITECTURES
from pipeline.backbones.networks.layers import BATCH_NORM_EPSILON
from pipeline.backbones.table import find_backbone

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensor: TypeAlias = Any  # TensorFlow has no types to import
Constant: TypeAlias = "Callable[[NDArray[Any]], Tensor]"
_ACTIVATIONS = {"relu": tf.nn.relu, "relu6": tf.nn.relu6, None: tf.identity}


class _FoldedLayers:
    """Layers that run at once (or are traced) with the given weights.

    Args:
        weights: Arrays by `<layer>/<kernel|gamma|beta|mean|variance>`.
        constant: Makes a constant of an array.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]], constant: Constant) -> None:
        self._weights = weights
        self._constant = constant

    def _folded(self, name: str) -> tuple[Tensor, Tensor]:
        kernel, bias = fold_batch_norm(self._weights, name)
        return self._constant(kernel), self._constant(bias)

    def conv(
        self,
        value: Tensor,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> Tensor:
        weight, bias = self._folded(name)
        value = tf.nn.conv2d(value, weight, strides, padding.upper())
        return _ACTIVATIONS[activation](tf.nn.bias_add(value, bias))

    def depthwise(self, value: Tensor, name: str, kernel: int, *, strides: int = 1) -> Tensor:
        weight, bias = self._folded(name)
        value = tf.nn.depthwise_conv2d(value, weight, (1, strides, strides, 1), "SAME")
        return tf.nn.relu6(tf.nn.bias_add(value, bias))

    def max_pool(self, value: Tensor) -> Tensor:
        return tf.nn.max_pool2d(value, 3, 2, "VALID")

    def average_pool(self, value: Tensor) -> Tensor:
        return tf.nn.avg_pool2d(value, 3, 1, "SAME")

    def global_average(self, value: Tensor) -> Tensor:
        return tf.reduce_mean(value, (1, 2))

    def concat(self, values: Sequence[Tensor]) -> Tensor:
        return tf.concat(values, -1)

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class _MappedLayers(_FoldedLayers):
    """Layers that end in the pooled features and the map they were pooled from."""

    def global_average(self, value: Tensor) -> Tensor:
        return super().global_average(value), value


def fold_batch_norm(
    weights: Mapping[str, NDArray[Any]], name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the kernel and bias that do what a convolution and its batch norm do."""
    part = {
        key: weights[f"{name}/{key}"].astype(np.float64)
        for key in ("kernel", "beta", "mean", "variance", "gamma")
        if f"{name}/{key}" in weights
    }
    scale = part.get("gamma", 1.0) / np.sqrt(part["variance"] + BATCH_NORM_EPSILON)
    # A depthwise kernel ends in (channels, 1), any other in (inputs, channels).
    factor = scale[:, None] if part["kernel"].shape[-1] == 1 else scale
    bias = part["beta"] - part["mean"] * scale
    return (part["kernel"] * factor).astype(np.float32), bias.astype(np.float32)


def build_network(
    backbone: str, weights: Mapping[str, NDArray[Any]], constant: Constant = tf.constant
) -> Any:
    """Return a `tf.function` from uint8 pixels to pooled features, the weights constants in its graph.

    Shapes:
        pixels: (batch, height, width, 3) uint8.  returns: (batch, feature_width) float32.
    """
    return _trace(backbone, _FoldedLayers(weights, constant))


def build_mapped_network(
    backbone: str, weights: Mapping[str, NDArray[Any]], constant: Constant = tf.constant
) -> Any:
    """Return the same network with a second output: the feature map whose mean the pooled features are.

    Shapes:
        pixels: (batch, height, width, 3) uint8.
        returns: (batch, feature_width) and (batch, rows, columns, feature_width) float32.
    """
    return _trace(backbone, _MappedLayers(weights, constant))


def _trace(backbone: str, layers: _FoldedLayers) -> Any:
    spec, lay_out = find_backbone(backbone).spec, ARCHITECTURES[backbone]

    def network(pixels: Tensor) -> Tensor:
        return lay_out(layers, (tf.cast(pixels, tf.float32) - spec.offset) / spec.divisor)

    pixels_spec = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    return tf.function(network, input_signature=[pixels_spec], autograph=False)
