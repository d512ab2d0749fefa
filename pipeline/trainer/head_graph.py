"""The heads as operations on constants."""

from __future__ import annotations

from typing import TypeAlias

import tensorflow as tf

from pipeline.backbones.networks.folded import MakeConstant
from pipeline.tflite.head import Head, LogisticHead, TrainedHead

HeadConstants: TypeAlias = dict[str, tf.Tensor]  # by the names of the head's arrays
SHORTEST = 1e-12  # features of zeros have no direction, and are divided by this


class DenseGraph:
    """The reference head as operations on constants.

    Args:
        head: The trained head.
        constant: Makes a constant of an array.
    """

    def __init__(self, head: Head, constant: MakeConstant) -> None:
        self._head = head
        self._constant = constant

    @property
    def feature_width(self) -> int:
        """Length of the pooled features."""
        return len(self._head.hidden_kernel)

    def apply(self, pooled: tf.Tensor) -> tf.Tensor:
        """Return class probabilities."""
        return apply_head(pooled, self._constants())[0]

    def explain(self, pooled: tf.Tensor, feature_map: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return class probabilities and the class-activation map."""
        constants = self._constants()
        outputs, hidden = apply_head(pooled, constants)
        return outputs, class_activation(feature_map, hidden, tf.argmax(outputs, 1), constants)

    def _constants(self) -> HeadConstants:
        return {name: self._constant(array) for name, array in self._head.arrays().items()}


class LogisticGraph:
    """Logistic regression on features of length one, as operations on constants.

    Args:
        head: The trained head.
        constant: Makes a constant of an array.
    """

    def __init__(self, head: LogisticHead, constant: MakeConstant) -> None:
        self._head = head
        self._constant = constant

    @property
    def feature_width(self) -> int:
        """Length of the pooled features."""
        return len(self._head.output_kernel)

    def apply(self, pooled: tf.Tensor) -> tf.Tensor:
        """Return class probabilities."""
        return self._classify(pooled, self._constants())

    def explain(self, pooled: tf.Tensor, feature_map: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return class probabilities and the class-activation map: each place's share of the logit."""
        constants = self._constants()
        outputs, kernel = self._classify(pooled, constants), constants["output_kernel"]
        against_mean = tf.transpose(kernel - tf.reduce_mean(kernel, 1, keepdims=True))
        lengths = tf.maximum(tf.norm(pooled, axis=1, keepdims=True), SHORTEST)
        weights = tf.gather(against_mean, tf.argmax(outputs, 1)) / lengths
        return outputs, tf.einsum("bhwk,bk->bhw", feature_map, weights)

    def _classify(self, pooled: tf.Tensor, constants: HeadConstants) -> tf.Tensor:
        units = tf.math.l2_normalize(pooled, 1, epsilon=SHORTEST**2)
        return tf.nn.softmax(tf.matmul(units, constants["output_kernel"]) + constants["output_bias"])

    def _constants(self) -> HeadConstants:
        return {name: self._constant(array) for name, array in self._head.arrays().items()}


HeadGraph: TypeAlias = DenseGraph | LogisticGraph


def graph_of(head: TrainedHead, constant: MakeConstant) -> HeadGraph:
    """Return a head as operations on constants."""
    return DenseGraph(head, constant) if isinstance(head, Head) else LogisticGraph(head, constant)


def apply_head(pooled: tf.Tensor, head: HeadConstants) -> tuple[tf.Tensor, tf.Tensor]:
    """Return class probabilities and the values of the hidden units."""
    hidden = tf.nn.relu(tf.matmul(pooled, head["hidden_kernel"]) + head["hidden_bias"])
    return tf.nn.softmax(tf.matmul(hidden, head["output_kernel"]) + head["output_bias"]), hidden


def class_activation(
    feature_map: tf.Tensor, hidden: tf.Tensor, best: tf.Tensor, head: HeadConstants
) -> tf.Tensor:
    """Return the class-activation map of each picture.

    For one picture the head is linear in the pooled features, through the hidden units that are above zero,
    and those features are means over places: so each place's share of the logit follows exactly. The map's
    mean, and a constant of the biases, are the logit of the class minus the mean of all logits.
    """
    output_kernel = head["output_kernel"]
    against_mean = output_kernel - tf.reduce_mean(output_kernel, 1, keepdims=True)
    towards = tf.gather(tf.transpose(against_mean), best) * tf.cast(hidden > 0, tf.float32)
    weights = tf.matmul(towards, head["hidden_kernel"], transpose_b=True)
    return tf.einsum("bhwk,bk->bhw", feature_map, weights)
