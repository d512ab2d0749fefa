"""Operations on each number by itself, in the order of axes that the operands have already."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.onnx_graph.node import Node
from pipeline.backbones.networks.onnx_graph.values import TO_LAST, Value
from pipeline.errors import NetworkRefused

Combine: TypeAlias = Callable[..., tf.Tensor]
# A quotient of polynomials in x squared, exact to float32's rounding between -4 and 4 (Eigen's).
_ERF_ABOVE = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
              -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_BELOW = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
              -1.42647390514189e-02)  # fmt: skip


def each(value: Value, function: Callable[[tf.Tensor], tf.Tensor]) -> Value:
    """Apply a function of single numbers."""
    if value.is_last:
        return Value(last=function(value.last()), sizes=value.sizes)
    return Value(function(value.first()), sizes=value.sizes)


def together(function: Combine, *values: Value) -> Value:
    """Apply a function that broadcasts its operands."""
    if any(value.is_last for value in values) and all(map(_can_be_last, values)):
        return Value(last=function(*map(_as_last, values)))
    return Value(function(*(value.first() for value in values)))


def _can_be_last(value: Value) -> bool:
    return value.rank == 4 or (value.is_constant and value.rank < 4)


def _as_last(value: Value) -> tf.Tensor:
    if not value.is_constant or value.rank == 0:
        return value.first() if value.rank == 0 else value.last()
    array = value.array
    whole = array.reshape((1,) * (4 - array.ndim) + array.shape)
    return tf.constant(np.transpose(whole, TO_LAST))


def erf(tensor: tf.Tensor) -> tf.Tensor:
    """Return the error function in operations that TFLite has."""
    clipped = tf.clip_by_value(tensor, -4.0, 4.0)
    square = tf.square(clipped)
    above = reduce(lambda total, factor: total * square + factor, _ERF_ABOVE[1:], _ERF_ABOVE[0])
    below = reduce(lambda total, factor: total * square + factor, _ERF_BELOW[1:], _ERF_BELOW[0])
    return clipped * above / below


def hard_sigmoid(tensor: tf.Tensor, slope: float, offset: float) -> tf.Tensor:
    """Return a line between 0 and 1."""
    if math.isclose(slope, 1 / 6, rel_tol=1e-3) and offset == 0.5:  # TFLite has this one
        return tf.nn.relu6(tensor + 3.0) * (1 / 6)
    return tf.clip_by_value(slope * tensor + offset, 0.0, 1.0)


def clip(node: Node) -> Value:
    """Bound each number; the bounds that activations use become theirs."""
    low = _bound(node, "min", 1, -math.inf)
    high = _bound(node, "max", 2, math.inf)
    value = node.value(0)
    if low == 0 and high in (6.0, math.inf):
        return each(value, tf.nn.relu6 if high == 6.0 else tf.nn.relu)

    def bound(tensor: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tensor, max(low, tensor.dtype.min), min(high, tensor.dtype.max))

    return each(value, bound)


def _bound(node: Node, name: str, number: int, default: float) -> float:
    value = node.optional(number)
    return node.number(name, default) if value is None else float(value.array.reshape(-1)[0])


def power(node: Node) -> Value:
    """Raise to a power; squares and roots become their own operations."""
    value, exponent = node.value(0), node.value(1)
    if exponent.is_constant and exponent.array.size == 1:
        function = {2.0: tf.square, 0.5: tf.sqrt, 1.0: tf.identity}.get(float(exponent.array.reshape(-1)[0]))
        if function:
            return each(value, function)
    return together(lambda base, by: tf.pow(base, tf.cast(by, base.dtype)), value, exponent)


def cast(node: Node) -> Value:
    """Change the type of numbers; only float32 and integers are known."""
    import onnx

    name = onnx.TensorProto.DataType.Name(node.integer("to", onnx.TensorProto.FLOAT)).lower()
    kinds = {"float": tf.float32, "int64": tf.int64, "int32": tf.int32, "bool": tf.bool}
    if name not in kinds:
        raise NetworkRefused(f"it casts to {name}; export the network in float32")
    return each(node.value(0), lambda tensor: tf.cast(tensor, kinds[name]))


def activation(function: Combine, **defaults: float) -> Callable[[Node], Value]:
    """Return an operation that applies a function with attributes of the node."""

    def apply(node: Node) -> Value:
        settings = {name: node.number(name, default) for name, default in defaults.items()}
        return each(node.value(0), lambda tensor: function(tensor, **settings))

    return apply


def variadic(function: Combine) -> Callable[[Node], Value]:
    """Return an operation on any number of operands."""

    def apply(node: Node) -> Value:
        values = [node.value(number) for number in range(len(node.inputs))]
        return together(lambda *tensors: reduce(function, tensors), *values)

    return apply


def mean(node: Node) -> Value:
    """Average operands."""
    total = variadic(tf.add)(node)
    return each(total, lambda tensor: tensor / len(node.inputs))


def prelu(node: Node) -> Value:
    """Apply a slope of each channel to negative numbers."""
    value, slope = node.value(0), node.value(1)
    return together(lambda tensor, by: tf.nn.relu(tensor) - by * tf.nn.relu(-tensor), value, slope)


def gelu(node: Node) -> Value:
    """Apply GELU, which TFLite has in both forms."""
    is_rough = node.text("approximate", "none") == "tanh"
    return each(node.value(0), lambda tensor: tf.nn.gelu(tensor, approximate=is_rough))


def same(node: Node) -> Value:
    """Return the input: what an operation does that only training needs."""
    return node.value(0)


def unary(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[Node], Value]:
    """Return an operation on one operand."""
    return lambda node: each(node.value(0), function)


def broadcast(function: Combine) -> Callable[[Node], Value]:
    """Return an operation on all operands, which are broadcast."""
    return lambda node: together(function, *(node.value(number) for number in range(len(node.inputs))))


def leaky_relu(tensor: tf.Tensor, alpha: float) -> tf.Tensor:
    """Apply a slope to negative numbers."""
    return tf.nn.leaky_relu(tensor, alpha)


def elu(tensor: tf.Tensor, alpha: float) -> tf.Tensor:
    """Apply an exponential to negative numbers."""
    return tf.nn.elu(tensor) if alpha == 1 else tf.where(tensor > 0, tensor, alpha * (tf.exp(tensor) - 1))


ELEMENTWISE: dict[str, Callable[[Node], Value]] = {
    "Abs": unary(tf.abs),
    "Add": broadcast(tf.add),
    "And": broadcast(tf.logical_and),
    "Cast": cast,
    "Ceil": unary(tf.math.ceil),
    "Clip": clip,
    "Cos": unary(tf.cos),
    "Div": broadcast(tf.divide),
    "Dropout": same,
    "Elu": activation(elu, alpha=1.0),
    "Equal": broadcast(tf.equal),
    "Erf": unary(erf),
    "Exp": unary(tf.exp),
    "Floor": unary(tf.floor),
    "Gelu": gelu,
    "Greater": broadcast(tf.greater),
    "GreaterOrEqual": broadcast(tf.greater_equal),
    "HardSigmoid": activation(
        lambda tensor, alpha, beta: hard_sigmoid(tensor, alpha, beta), alpha=0.2, beta=0.5
    ),
    "HardSwish": unary(lambda tensor: tensor * tf.nn.relu6(tensor + 3.0) * (1 / 6)),
    "Identity": same,
    "LeakyRelu": activation(leaky_relu, alpha=0.01),
    "Less": broadcast(tf.less),
    "LessOrEqual": broadcast(tf.less_equal),
    "Log": unary(tf.math.log),
    "Max": variadic(tf.maximum),
    "Mean": mean,
    "Min": variadic(tf.minimum),
    "Mish": unary(lambda tensor: tensor * tf.tanh(tf.nn.softplus(tensor))),
    "Mul": broadcast(tf.multiply),
    "Neg": unary(tf.negative),
    "Not": unary(tf.logical_not),
    "Or": broadcast(tf.logical_or),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": unary(lambda tensor: 1.0 / tensor),
    "Relu": unary(tf.nn.relu),
    "Round": unary(tf.round),
    "Selu": unary(tf.nn.selu),
    "Sigmoid": unary(tf.sigmoid),
    "Sign": unary(tf.sign),
    "Sin": unary(tf.sin),
    "Softplus": unary(tf.nn.softplus),
    "Softsign": unary(tf.nn.softsign),
    "Sqrt": unary(tf.sqrt),
    "Sub": broadcast(tf.subtract),
    "Sum": variadic(tf.add),
    "Swish": activation(lambda tensor, alpha: tensor * tf.sigmoid(alpha * tensor), alpha=1.0),
    "Tanh": unary(tf.tanh),
    "Where": broadcast(tf.where),
}
