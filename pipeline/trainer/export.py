"""The SavedModel: from encoded pictures to classes, in three signatures, with no variable in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.errors import SignatureMismatch
from pipeline.npz import write_npz
from pipeline.pixels.graph import decode_and_resize, read_inputs
from pipeline.pixels.spec import PixelSpec
from pipeline.trainer.head import Head
from pipeline.types import Float32Outputs, UInt8Images

Tensor: TypeAlias = Any  # TensorFlow has no types to import
TOLERANCE = 1e-3


def export_model(
    directory: Path, *, network: Any, head: Head, spec: PixelSpec, classes: Sequence[str]
) -> None:
    """Write the SavedModel, and `graft/labels.json` and `graft/head.weights.npz` beside it.

    Signatures:
        `serving_default`: `inputs` string, encoded pictures or base64 text -> `outputs`.
        `keyed`: `key` and `inputs` strings -> `key`, `outputs`, `label`, `score`.
        `pixels`: `inputs` uint8 (batch, height, width, 3) -> `outputs`.

    Args:
        directory: Where to; made if absent.
        network: The folded backbone, a `tf.function` of uint8 pixels.
        head: The trained head.
        spec: The pixels the backbone is fed.
        classes: The label of each class.
    """
    module = tf.Module()
    signatures = _signatures(network, head, spec, classes)
    tf.saved_model.save(module, str(directory), signatures=signatures)
    (directory / "graft").mkdir(exist_ok=True)
    labels = json.dumps(list(classes), ensure_ascii=False, indent=2)
    (directory / "graft" / "labels.json").write_text(labels + "\n", encoding="utf-8")
    (directory / "graft" / "head.weights.npz").write_bytes(write_npz(head.arrays()))


def check_export(directory: Path, pixels: UInt8Images, expected: Float32Outputs) -> None:
    """Load the SavedModel and compare each signature with the trainer's own outputs.

    Args:
        directory: The SavedModel.
        pixels: Some training pictures, already of the network's size; the string signatures get them as PNG.
        expected: The trainer's outputs for them.

    Raises:
        SignatureMismatch: naming the signature and the difference.
    """
    model = tf.saved_model.load(str(directory))
    encoded = [tf.io.encode_png(picture) for picture in pixels]
    keys = [str(number) for number in range(len(pixels))]
    answers = {
        "pixels": model.signatures["pixels"](inputs=tf.constant(pixels)),
        "serving_default": model.signatures["serving_default"](
            inputs=tf.stack([tf.io.encode_base64(picture) for picture in encoded])
        ),
        "keyed": model.signatures["keyed"](key=tf.constant(keys), inputs=tf.stack(encoded)),
    }
    for name, answer in answers.items():
        difference = float(np.abs(answer["outputs"].numpy() - expected).max())
        if not difference <= TOLERANCE:
            raise SignatureMismatch(
                f"The exported signature {name!r} differs from the trainer by {difference:.2g}, "
                f"more than {TOLERANCE}.",
                signature=name,
                difference=difference,
            )


def _signatures(network: Any, head: Head, spec: PixelSpec, classes: Sequence[str]) -> dict[str, Any]:
    strings = tf.TensorSpec((None,), tf.string)

    def classify(pixels: Tensor) -> Tensor:
        hidden = tf.nn.relu(tf.matmul(network(pixels), head.hidden_kernel) + head.hidden_bias)
        return tf.nn.softmax(tf.matmul(hidden, head.output_kernel) + head.output_bias)

    pixels_spec = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    classify = _trace(classify, pixels_spec)

    def decode(inputs: Tensor) -> Tensor:
        one = tf.TensorSpec((spec.height, spec.width, 3), tf.uint8)
        return tf.map_fn(
            lambda item: decode_and_resize(read_inputs(item), spec), inputs, fn_output_signature=one
        )

    decode = _trace(decode, strings)

    def from_pixels(inputs: Tensor) -> dict[str, Tensor]:
        return {"outputs": classify(inputs)}

    def serve(inputs: Tensor) -> dict[str, Tensor]:
        return {"outputs": classify(decode(inputs))}

    def serve_keyed(key: Tensor, inputs: Tensor) -> dict[str, Tensor]:
        outputs = classify(decode(inputs))
        label = tf.gather(tf.constant(list(classes)), tf.argmax(outputs, 1))
        return {"key": key, "outputs": outputs, "label": label, "score": tf.reduce_max(outputs, 1)}

    named = {name: tf.TensorSpec((None,), tf.string, name=name) for name in ("key", "inputs")}
    pixels_input = tf.TensorSpec(pixels_spec.shape, tf.uint8, name="inputs")
    return {
        "serving_default": _trace(serve, named["inputs"]),
        "keyed": _trace(serve_keyed, named["key"], named["inputs"]),
        "pixels": _trace(from_pixels, pixels_input),
    }


def _trace(function: Any, *arguments: Any) -> Any:
    # Nothing here branches in Python, and AutoGraph's rewriting of every function called takes seconds.
    return tf.function(function, input_signature=list(arguments), autograph=False)
