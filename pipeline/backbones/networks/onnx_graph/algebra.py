"""Operations that combine the numbers of an axis: products of matrices, means, norms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.onnx_graph.node import Node
from pipeline.backbones.networks.onnx_graph.values import Value
from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

Reduction: TypeAlias = Callable[..., tf.Tensor]
_PLACES, _PLACES_LAST = [2, 3], [1, 2]  # the axes of a picture's rows and columns in both orders


def matmul(node: Node) -> Value:
    """Multiply matrices."""
    left, right = node.value(0), node.value(1)
    if left.rank == 1 or right.rank == 1:
        raise NetworkRefused("it multiplies a matrix by a vector")
    return Value(tf.matmul(left.first(), right.first()))


def gemm(node: Node) -> Value:
    """Multiply matrices and add a bias."""
    left, right, bias = node.value(0), node.value(1), node.optional(2)
    factors = node.number("alpha", 1.0), node.number("beta", 1.0)
    kernel = Value(right.array * np.float32(factors[0])) if right.is_constant else right
    if not right.is_constant and factors[0] != 1:
        raise NetworkRefused("it multiplies two tensors of pictures by a factor")
    turns = {"transpose_a": bool(node.integer("transA", 0)), "transpose_b": bool(node.integer("transB", 0))}
    product = tf.matmul(left.first(), kernel.first(), **turns)
    return Value(product if bias is None else product + bias.first() * factors[1])


def einsum(node: Node) -> Value:
    """Multiply and sum by a formula."""
    tensors = [node.value(number).first() for number in range(len(node.inputs))]
    return Value(tf.einsum(node.text("equation", ""), *tensors))


def softmax(node: Node) -> Value:
    """Normalise an axis to probabilities."""
    value = node.value(0)
    axis = node.integer("axis", -1 if node.opset >= 13 else 1) % value.rank
    if node.opset < 13 and axis != value.rank - 1:
        raise NetworkRefused(
            "it normalises several axes at once, as before opset 13. Export it with opset 13"
        )
    function = tf.nn.log_softmax if node.kind == "LogSoftmax" else tf.nn.softmax
    return Value(function(value.first(), axis))


def reduction(function: Reduction, node: Node) -> Value:
    """Combine the numbers along axes."""
    value, axes = node.value(0), node.integers_or_input("axes", 1)
    if not axes and node.integer("noop_with_empty_axes", 0):
        return value
    places = sorted(axis % value.rank for axis in axes) if axes else list(range(value.rank))
    keeps = bool(node.integer("keepdims", 1))
    if value.is_last and places == _PLACES:
        return over_places(function, value, keeps=keeps)
    if 0 in places and not value.is_constant:
        raise NetworkRefused("it combines the pictures of a batch")
    return Value(function(value.first(), places, keepdims=keeps))


def over_places(function: Reduction, value: Value, *, keeps: bool) -> Value:
    """Combine the rows and columns of a feature map."""
    reduced = function(value.last(), _PLACES_LAST, keepdims=keeps)
    return Value(last=reduced) if keeps else Value(reduced)


def layer_norm(node: Node) -> Value:
    """Normalise the last axes by their mean and variance."""
    value = node.value(0)
    axis = node.integer("axis", -1) % value.rank
    axes = list(range(axis, value.rank))
    normal = _normalise(value.first(), axes, node.number("epsilon", 1e-5))
    bias = node.optional(2)
    scaled = normal * node.value(1).first()
    return Value(scaled if bias is None else scaled + bias.first())


def _normalise(tensor: tf.Tensor, axes: list[int], epsilon: float) -> tf.Tensor:
    centred = tensor - tf.reduce_mean(tensor, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon)


def rms_norm(node: Node) -> Value:
    """Normalise the last axes by their root mean square."""
    value = node.value(0)
    axes = list(range(node.integer("axis", -1) % value.rank, value.rank))
    tensor = value.first()
    square = tf.reduce_mean(tf.square(tensor), axes, keepdims=True)
    return Value(tensor * tf.math.rsqrt(square + node.number("epsilon", 1e-5)) * node.value(1).first())


def batch_norm(node: Node) -> Value:
    """Scale and shift each channel by the statistics of training."""
    scale, offset, mean, variance = (node.value(number).array for number in range(1, 5))
    factor = scale / np.sqrt(variance + np.float32(node.number("epsilon", 1e-5)))
    return by_channel(node.value(0), factor, offset - mean * factor)


def by_channel(value: Value, factor: NDArray[Any], offset: NDArray[Any]) -> Value:
    """Scale and shift each channel."""
    if value.rank == 4:
        return Value(last=value.last() * factor + offset, sizes=value.sizes)
    shape = (1, -1) + (1,) * (value.rank - 2)
    return Value(value.first() * factor.reshape(shape) + offset.reshape(shape), sizes=value.sizes)


def instance_norm(node: Node) -> Value:
    """Normalise each channel of a picture by its places."""
    value = node.value(0)
    normal = _normalise(value.last(), _PLACES_LAST, node.number("epsilon", 1e-5))
    return by_channel(Value(last=normal, sizes=value.sizes), node.value(1).array, node.value(2).array)


def group_norm(node: Node) -> Value:
    """Normalise groups of channels of a picture."""
    value, groups = node.value(0), node.integer("num_groups", 1)
    batch, channels, *places = value.sizes
    parts = value.reshape((batch, groups, channels // groups, *places)).first()
    normal = _normalise(parts, list(range(2, len(places) + 3)), node.number("epsilon", 1e-5))
    factor, offset = node.value(1).array, node.value(2).array
    if node.opset < 21:  # one number a group
        factor, offset = (np.repeat(each, channels // groups) for each in (factor, offset))
    return by_channel(Value(normal).reshape(value.sizes), factor, offset)


def lp_norm(node: Node) -> Value:
    """Scale an axis to length one."""
    value, order = node.value(0), node.integer("p", 2)
    tensor, axis = value.first(), node.integer("axis", -1)
    length = tf.reduce_sum(tf.abs(tensor) if order == 1 else tf.square(tensor), axis, keepdims=True)
    return Value(tensor / (length if order == 1 else tf.sqrt(length)))


def _sum_of_squares(tensor: tf.Tensor, axes: list[int], *, keepdims: bool) -> tf.Tensor:
    return tf.reduce_sum(tf.square(tensor), axes, keepdims=keepdims)


def _length(tensor: tf.Tensor, axes: list[int], *, keepdims: bool) -> tf.Tensor:
    return tf.sqrt(_sum_of_squares(tensor, axes, keepdims=keepdims))


def _sum_of_sizes(tensor: tf.Tensor, axes: list[int], *, keepdims: bool) -> tf.Tensor:
    return tf.reduce_sum(tf.abs(tensor), axes, keepdims=keepdims)


ALGEBRA: dict[str, Callable[[Node], Value]] = {
    "BatchNormalization": batch_norm,
    "Einsum": einsum,
    "Gemm": gemm,
    "GlobalAveragePool": lambda node: over_places(tf.reduce_mean, node.value(0), keeps=True),
    "GlobalMaxPool": lambda node: over_places(tf.reduce_max, node.value(0), keeps=True),
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": layer_norm,
    "LogSoftmax": softmax,
    "LpNormalization": lp_norm,
    "MatMul": matmul,
    "RMSNormalization": rms_norm,
    "ReduceL1": partial(reduction, _sum_of_sizes),
    "ReduceL2": partial(reduction, _length),
    "ReduceMax": partial(reduction, tf.reduce_max),
    "ReduceMean": partial(reduction, tf.reduce_mean),
    "ReduceMin": partial(reduction, tf.reduce_min),
    "ReduceProd": partial(reduction, tf.reduce_prod),
    "ReduceSum": partial(reduction, tf.reduce_sum),
    "ReduceSumSquare": partial(reduction, _sum_of_squares),
    "Softmax": softmax,
}
