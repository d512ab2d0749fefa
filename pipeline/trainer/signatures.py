"""The signatures of a SavedModel as operations on constants: from encoded pictures to named answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.folded import MakeConstant, MappedNetwork
from pipeline.pixels.graph import decode_and_resize, read_inputs
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.novelty import NEAREST, STEPS, Novelty
from pipeline.trainer.head_graph import SHORTEST, HeadGraph

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead

TracedT = TypeVar("TracedT", bound="Callable[..., tf.Tensor | dict[str, tf.Tensor]]")


class NoveltyGraph:
    """`NoveltyScorer` as operations on constants.

    Args:
        novelty: The directions and quantiles.
        constant: Makes a constant of an array.
    """

    def __init__(self, novelty: Novelty, constant: MakeConstant) -> None:
        self._novelty, self._constant = novelty, constant
        pooled = tf.TensorSpec((None, novelty.directions.shape[1]), tf.float32)
        self.score = _trace(self._score, pooled)  # a function of its own: its constants are written once

    def _score(self, pooled: tf.Tensor) -> tf.Tensor:
        """Return the novelty of pictures."""
        directions = tf.cast(self._constant(self._novelty.directions), tf.float32)
        quantiles = self._constant(self._novelty.quantiles)
        units = tf.math.l2_normalize(directions, 1, epsilon=SHORTEST**2)
        cosines = tf.matmul(tf.math.l2_normalize(pooled, 1, epsilon=SHORTEST**2), units, transpose_b=True)
        values = 1 - tf.reduce_mean(tf.math.top_k(cosines, NEAREST).values, 1)
        above = tf.clip_by_value(tf.searchsorted(quantiles, values), 1, STEPS)
        low, high = tf.gather(quantiles, above - 1), tf.gather(quantiles, above)
        part = tf.clip_by_value((values - low) / tf.maximum(high - low, 1e-12), 0, 1)
        return (tf.cast(above - 1, tf.float32) + part) / STEPS


class NamedAnswers:
    """What the signatures with a key answer, by name.

    Args:
        classes: The label of each class.
        reject_below: As in `export_model`.
        novelty: Tells how unlike the training pictures a picture is; None where the model cannot.
        reject_unlike: As in `export_model`.
        constant: Makes a constant of an array.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        reject_below: float | Sequence[float],
        novelty: NoveltyGraph | None,
        reject_unlike: float,
        constant: MakeConstant,
    ) -> None:
        self._classes, self._novelty, self._constant = list(classes), novelty, constant
        self._reject_below, self._reject_unlike = reject_below, reject_unlike

    def name(self, pooled: tf.Tensor, outputs: tf.Tensor, *, may_reject: bool) -> dict[str, tf.Tensor]:
        """Return outputs, label, score and novelty; a rejected picture has an empty label."""
        label = tf.gather(tf.constant(self._classes), tf.argmax(outputs, 1))
        named = {"outputs": outputs, "label": label, "score": tf.reduce_max(outputs, 1)}
        if self._novelty is not None:
            named["novelty"] = self._novelty.score(pooled)
        if may_reject:
            named["label"] = tf.where(self._is_rejected(named), "", label)
        return named

    def _is_rejected(self, named: Mapping[str, tf.Tensor]) -> tf.Tensor:
        bound = self._constant(np.array(self._reject_below, np.float32))
        if bound.shape.rank:  # one for each class
            bound = tf.gather(bound, tf.argmax(named["outputs"], 1))
        rejected = named["score"] < bound
        if self._novelty is not None and self._reject_unlike:
            rejected |= named["novelty"] > self._constant(np.array(self._reject_unlike, np.float32))
        return rejected


def build_signatures(
    network: MappedNetwork,
    head: HeadGraph | KerasHead,
    spec: PixelSpec,
    answers: NamedAnswers,
) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Return the signatures by name; see `export_model`.

    Args:
        network: From uint8 pixels to pooled features and the feature map.
        head: From pooled features to class probabilities.
        spec: The pixels the network is fed.
        answers: Names the answers of the signatures with a key.
    """
    pooled_spec = tf.TensorSpec((None, head.feature_width), tf.float32)
    apply = _trace(head.apply, pooled_spec)  # a function of its own: its constants are written once
    decode = _trace_decoder(spec)

    def classify(pixels: tf.Tensor) -> tf.Tensor:
        return apply(network(pixels)[0])

    pixels_spec = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    classify = _trace(classify, pixels_spec)

    def from_pixels(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": classify(inputs)}

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": classify(decode(inputs))}

    def serve_keyed(key: tf.Tensor, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        pooled = network(decode(inputs))[0]
        return {"key": key, **answers.name(pooled, apply(pooled), may_reject=True)}

    def explain(key: tf.Tensor, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        pooled, feature_map = network(decode(inputs))
        outputs, activation = head.explain(pooled, feature_map)
        named = answers.name(pooled, outputs, may_reject=False)
        return {"key": key, **named, "features": _direction(pooled), "activation": activation}

    named = {name: tf.TensorSpec((None,), tf.string, name=name) for name in ("key", "inputs")}
    pixels_input = tf.TensorSpec(pixels_spec.shape, tf.uint8, name="inputs")
    return {
        "serving_default": _trace(serve, named["inputs"]),
        "keyed": _trace(serve_keyed, named["key"], named["inputs"]),
        "pixels": _trace(from_pixels, pixels_input),
        "explained": _trace(explain, named["key"], named["inputs"]),
    }


def _direction(pooled: tf.Tensor) -> tf.Tensor:
    """Scale each row's features to 255; a negative one, which neither backbone has, becomes 0."""
    largest = tf.maximum(tf.reduce_max(pooled, 1, keepdims=True), 1e-12)
    return tf.cast(tf.round(tf.maximum(pooled, 0) / largest * 255), tf.uint8)


def _trace_decoder(spec: PixelSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    one = tf.TensorSpec((spec.height, spec.width, 3), tf.uint8)

    def decode(inputs: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda item: decode_and_resize(read_inputs(item), spec), inputs, fn_output_signature=one
        )

    return _trace(decode, tf.TensorSpec((None,), tf.string))


def _trace(function: TracedT, *arguments: tf.TensorSpec) -> TracedT:
    # Nothing here branches in Python, and AutoGraph's rewriting of every function called takes seconds.
    traced: TracedT = tf.function(function, input_signature=list(arguments), autograph=False)
    return traced
