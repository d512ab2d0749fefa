"""`python tests/integration/tiny_models.py DIRECTORY`: models of ours, so small that they load in no time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.tflite.head import Head
from pipeline.trainer.export import export_model
from pipeline.trainer.tflite_export import add_tflite_export
from pipeline.trainer.trunk import comparison_pixels

SPEC = PixelSpec(height=4, width=4, offset=0.0, divisor=255.0)
CLASSES = ["odd", "even"]


@tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.uint8)])
def network(pixels):
    """A backbone without weights: its features are the mean colours."""
    levels = tf.cast(pixels, tf.float32) / 255.0
    feature_map = tf.nn.avg_pool2d(levels, 2, 2, "VALID")
    return tf.reduce_mean(feature_map, [1, 2]), feature_map


def write_model(directory: Path, favourite: int) -> None:
    """Write a model that always prefers one class."""
    head = Head(
        hidden_kernel=np.eye(3, dtype=np.float32),
        hidden_bias=np.zeros(3, np.float32),
        output_kernel=np.zeros((3, 2), np.float32),
        output_bias=np.float32([3.0, 0.0] if favourite == 0 else [0.0, 3.0]),
    )
    export_model(directory, build_network=lambda _: network, head=head, spec=SPEC, classes=CLASSES)
    pixels = comparison_pixels(np.zeros((1, 4, 4, 3), np.uint8), SPEC)
    expected = tf.saved_model.load(str(directory)).signatures["pixels"](inputs=tf.constant(pixels))
    manifest = add_tflite_export(
        directory,
        lambda: network,
        uri="gs://light/tiny.tflite",
        storage=Storage({"light": directory.parent / "light"}),
        pixels=pixels,
        expected=expected["outputs"].numpy(),
        spec=SPEC,
        reject_below=0.0,
    )
    if not manifest.is_equal:
        raise SystemExit(f"the TFLite export differs: {manifest.parity}")


if __name__ == "__main__":
    for index, name in enumerate(CLASSES):
        write_model(Path(sys.argv[1]) / name, index)
