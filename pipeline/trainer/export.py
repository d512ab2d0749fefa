"""The SavedModel: from encoded pictures to classes, in three signatures, with no variable in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.folded import MakeConstant, MappedNetwork
from pipeline.errors import SignatureMismatch
from pipeline.npz import write_npz
from pipeline.pixels.graph import decode_and_resize, read_inputs
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import Head
from pipeline.trainer.placeholder_constants import PlaceholderConstants
from pipeline.types import Float32Outputs, UInt8Images

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead

MapBuilder: TypeAlias = "Callable[[MakeConstant], MappedNetwork]"
HeadConstants: TypeAlias = dict[str, tf.Tensor]  # by the names of `Head`'s arrays
TracedT = TypeVar("TracedT", bound="Callable[..., tf.Tensor | dict[str, tf.Tensor]]")
TOLERANCE = 1e-3


def export_model(
    directory: Path,
    *,
    build_network: MapBuilder,
    head: Head | KerasHead,
    spec: PixelSpec,
    classes: Sequence[str],
    reject_below: float = 0.0,
) -> None:
    """Write the SavedModel, and `graft/labels.json` and the head beside it.

    Signatures:
        `serving_default`: `inputs` string, encoded pictures or base64 text -> `outputs`.
        `keyed`: `key` and `inputs` strings -> `key`, `outputs`, `label`, `score`.
        `pixels`: `inputs` uint8 (batch, height, width, 3) -> `outputs`.
        `explained`: as `keyed`, never rejecting, and `features` (the direction of the pooled features, uint8)
            and `activation` (rows, columns): how much each place contributed to the most probable class.

    Args:
        directory: Where to; made if absent.
        build_network: Returns the folded backbone with its feature map, a `tf.function` of uint8 pixels, for
            the constants it is given.
        head: The trained head.
        spec: The pixels the backbone is fed.
        classes: The label of each class.
        reject_below: `keyed` answers with an empty label where no class is this probable.
    """
    placeholders = PlaceholderConstants()
    part = _DenseHead(head, placeholders.constant) if isinstance(head, Head) else head
    signatures = _signatures(build_network(placeholders.constant), part, spec, classes, reject_below)
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    placeholders.fill(directory)
    (directory / "graft").mkdir(exist_ok=True)
    labels = json.dumps(list(classes), ensure_ascii=False, indent=2)
    (directory / "graft" / "labels.json").write_text(labels + "\n", encoding="utf-8")
    part.write(directory)


def check_export(directory: Path, pixels: UInt8Images, expected: Float32Outputs) -> Float32Outputs:
    """Load the SavedModel and compare what `keyed` answers with the trainer's own outputs.

    It decodes, forwards and classifies through the same traced functions as the other signatures, each of
    which would cost the job seconds to instantiate once more.

    Args:
        directory: The SavedModel.
        pixels: Some training pictures, already of the network's size; the model gets them as PNG.
        expected: The trainer's outputs for the first of them.

    Returns:
        What the SavedModel answers for all of them.

    Raises:
        SignatureMismatch: with the difference.
    """
    encoded = tf.stack([tf.io.encode_png(picture) for picture in pixels])
    keys = tf.constant([str(number) for number in range(len(pixels))])
    with _unoptimized():
        answer = tf.saved_model.load(str(directory)).signatures["keyed"](key=keys, inputs=encoded)
    outputs: Float32Outputs = answer["outputs"].numpy()
    difference = float(np.abs(outputs[: len(expected)] - expected).max())
    if not difference <= TOLERANCE:
        raise SignatureMismatch(
            f"The exported model differs from the trainer by {difference:.2g}, more than {TOLERANCE}.",
            difference=difference,
        )
    return outputs


@contextmanager
def _unoptimized() -> Iterator[None]:
    """Run graphs as they were written: optimising one takes longer than a single pass of a few pictures."""
    options = tf.config.optimizer
    before = options.get_experimental_options().get("disable_meta_optimizer", False)
    options.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        options.set_experimental_options({"disable_meta_optimizer": before})


class _DenseHead:
    """The reference head as operations on constants."""

    def __init__(self, head: Head, constant: MakeConstant) -> None:
        self._head = head
        self._constant = constant

    def apply(self, pooled: tf.Tensor) -> tf.Tensor:
        return _apply_head(pooled, self._constants())[0]

    def explain(self, pooled: tf.Tensor, feature_map: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        constants = self._constants()
        outputs, hidden = _apply_head(pooled, constants)
        return outputs, _activation(feature_map, hidden, tf.argmax(outputs, 1), constants)

    def write(self, directory: Path) -> None:
        (directory / "graft" / "head.weights.npz").write_bytes(write_npz(self._head.arrays()))

    def _constants(self) -> HeadConstants:
        return {name: self._constant(array) for name, array in self._head.arrays().items()}


def _signatures(
    network: MappedNetwork,
    head: _DenseHead | KerasHead,
    spec: PixelSpec,
    classes: Sequence[str],
    reject_below: float,
) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    strings, labels = tf.TensorSpec((None,), tf.string), tf.constant(list(classes))

    def classify(pixels: tf.Tensor) -> tf.Tensor:
        return head.apply(network(pixels)[0])

    pixels_spec = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    classify = _trace(classify, pixels_spec)

    def decode(inputs: tf.Tensor) -> tf.Tensor:
        one = tf.TensorSpec((spec.height, spec.width, 3), tf.uint8)
        return tf.map_fn(
            lambda item: decode_and_resize(read_inputs(item), spec), inputs, fn_output_signature=one
        )

    decode = _trace(decode, strings)

    def from_pixels(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": classify(inputs)}

    def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": classify(decode(inputs))}

    def serve_keyed(key: tf.Tensor, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = classify(decode(inputs))
        score = tf.reduce_max(outputs, 1)
        label = tf.where(score < reject_below, "", tf.gather(labels, tf.argmax(outputs, 1)))
        return {"key": key, "outputs": outputs, "label": label, "score": score}

    def explain(key: tf.Tensor, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        pooled, feature_map = network(decode(inputs))
        outputs, activation = head.explain(pooled, feature_map)
        return {
            "key": key,
            "outputs": outputs,
            "label": tf.gather(labels, tf.argmax(outputs, 1)),
            "score": tf.reduce_max(outputs, 1),
            "features": _direction(pooled),
            "activation": activation,
        }

    named = {name: tf.TensorSpec((None,), tf.string, name=name) for name in ("key", "inputs")}
    pixels_input = tf.TensorSpec(pixels_spec.shape, tf.uint8, name="inputs")
    return {
        "serving_default": _trace(serve, named["inputs"]),
        "keyed": _trace(serve_keyed, named["key"], named["inputs"]),
        "pixels": _trace(from_pixels, pixels_input),
        "explained": _trace(explain, named["key"], named["inputs"]),
    }


def _apply_head(pooled: tf.Tensor, head: HeadConstants) -> tuple[tf.Tensor, tf.Tensor]:
    hidden = tf.nn.relu(tf.matmul(pooled, head["hidden_kernel"]) + head["hidden_bias"])
    return tf.nn.softmax(tf.matmul(hidden, head["output_kernel"]) + head["output_bias"]), hidden


def _direction(pooled: tf.Tensor) -> tf.Tensor:
    """Scale each row's features to 255; a negative one, which neither backbone has, becomes 0."""
    largest = tf.maximum(tf.reduce_max(pooled, 1, keepdims=True), 1e-12)
    return tf.cast(tf.round(tf.maximum(pooled, 0) / largest * 255), tf.uint8)


def _activation(feature_map: tf.Tensor, hidden: tf.Tensor, best: tf.Tensor, head: HeadConstants) -> tf.Tensor:
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


def _trace(function: TracedT, *arguments: tf.TensorSpec) -> TracedT:
    # Nothing here branches in Python, and AutoGraph's rewriting of every function called takes seconds.
    traced: TracedT = tf.function(function, input_signature=list(arguments), autograph=False)
    return traced
