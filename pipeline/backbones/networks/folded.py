"""A backbone as plain TensorFlow operations on constants, batch norm folded into the convolutions.

This is what jobs run and what is exported: there is no variable to freeze and no Keras model to trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.architectures import ARCHITECTURES
from pipeline.backbones.networks.layers import BATCH_NORM_EPSILON
from pipeline.backbones.table import find_backbone
from pipeline.types import UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

MakeConstant: TypeAlias = "Callable[[NDArray[Any]], tf.Tensor]"
_ACTIVATIONS = {"relu": tf.nn.relu, "relu6": tf.nn.relu6, None: tf.identity}


class Network(Protocol):
    """A `tf.function` from uint8 pixels to pooled features."""

    def __call__(self, pixels: tf.Tensor | UInt8Images) -> tf.Tensor:
        """Return the pooled features."""


class MappedNetwork(Protocol):
    """A `tf.function` from uint8 pixels to pooled features and the feature map they are the mean of."""

    def __call__(self, pixels: tf.Tensor | UInt8Images) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the pooled features and the feature map."""

    def get_concrete_function(self) -> tf.types.experimental.ConcreteFunction:
        """Return the traced graph."""


class MapBuilder(Protocol):
    """Builds a network, its weights constants that another function makes."""

    def __call__(self, constant: MakeConstant = tf.constant) -> MappedNetwork:
        """Return the network."""


class _FoldedLayers:
    """Layers that run at once (or are traced) with the given weights.

    Args:
        weights: Arrays by `<layer>/<kernel|gamma|beta|mean|variance>`.
        constant: Makes a constant of an array.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], constant: MakeConstant) -> None:
        self._weights = weights
        self._constant = constant

    def _folded(self, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        kernel, bias = fold_batch_norm(self._weights, name)
        return self._constant(kernel), self._constant(bias)

    def conv(
        self,
        value: tf.Tensor,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> tf.Tensor:
        weight, bias = self._folded(name)
        value = tf.nn.conv2d(value, weight, strides, padding.upper())
        return _ACTIVATIONS[activation](tf.nn.bias_add(value, bias))

    def depthwise(self, value: tf.Tensor, name: str, kernel: int, *, strides: int = 1) -> tf.Tensor:
        weight, bias = self._folded(name)
        value = tf.nn.depthwise_conv2d(value, weight, (1, strides, strides, 1), "SAME")
        return tf.nn.relu6(tf.nn.bias_add(value, bias))

    def max_pool(self, value: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(value, 3, 2, "VALID")

    def average_pool(self, value: tf.Tensor) -> tf.Tensor:
        return tf.nn.avg_pool2d(value, 3, 1, "SAME")

    def global_average(self, value: tf.Tensor) -> tf.Tensor:
        self.feature_map = value
        return tf.reduce_mean(value, (1, 2))

    def concat(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.concat(values, -1)

    def add(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        return left + right


def fold_batch_norm(
    weights: Mapping[str, NDArray[np.float32]], name: str
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
    backbone: str, weights: Mapping[str, NDArray[np.float32]], constant: MakeConstant = tf.constant
) -> Network:
    """Return a `tf.function` from uint8 pixels to pooled features, the weights constants in its graph.

    Shapes:
        pixels: (batch, height, width, 3) uint8.  returns: (batch, feature_width) float32.
    """
    mapped = _lay_out(backbone, weights, constant)
    network: Network = _trace(backbone, lambda pixels: mapped(pixels)[0])
    return network


def build_mapped_network(
    backbone: str, weights: Mapping[str, NDArray[np.float32]], constant: MakeConstant = tf.constant
) -> MappedNetwork:
    """Return the same network with a second output: the feature map whose mean the pooled features are.

    Shapes:
        pixels: (batch, height, width, 3) uint8.
        returns: (batch, feature_width) and (batch, rows, columns, feature_width) float32.
    """
    network: MappedNetwork = _trace(backbone, _lay_out(backbone, weights, constant))
    return network


def _lay_out(
    backbone: str, weights: Mapping[str, NDArray[np.float32]], constant: MakeConstant
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    spec, layers = find_backbone(backbone).spec, _FoldedLayers(weights, constant)

    def network(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scaled = (tf.cast(pixels, tf.float32) - spec.offset) / spec.divisor
        return ARCHITECTURES[backbone](layers, scaled), layers.feature_map

    return network


def _trace(
    backbone: str, network: Callable[[tf.Tensor], tf.Tensor | tuple[tf.Tensor, tf.Tensor]]
) -> tf.types.experimental.PolymorphicFunction:
    spec = find_backbone(backbone).spec
    pixels = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    return tf.function(network, input_signature=[pixels], autograph=False)
