"""Writes the SavedModel, which holds no variable, and compares its answers with the trainer's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from pipeline.backbones.networks.folded import MapBuilder
from pipeline.errors import SignatureMismatch
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import TrainedHead
from pipeline.tflite.novelty import Novelty
from pipeline.trainer.head_graph import graph_of
from pipeline.trainer.model_records import write_records
from pipeline.trainer.placeholder_constants import PlaceholderConstants
from pipeline.trainer.signatures import NamedAnswers, NoveltyGraph, build_signatures
from pipeline.types import Float32Outputs, UInt8Images

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead

TOLERANCE = 1e-3


def export_model(
    directory: Path,
    *,
    build_network: MapBuilder,
    head: TrainedHead | KerasHead,
    spec: PixelSpec,
    classes: Sequence[str],
    reject_below: float | Sequence[float] = 0.0,
    novelty: Novelty | None = None,
    reject_unlike: float = 0.0,
) -> PlaceholderConstants:
    """Write the SavedModel, and `graft/labels.json` and the head beside it.

    Signatures:
        `serving_default`: `inputs` string, encoded pictures or base64 text -> `outputs`.
        `keyed`: `key` and `inputs` strings -> `key`, `outputs`, `label`, `score`, `novelty`.
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
        reject_below: `keyed` answers with an empty label where no class is this probable; a sequence has
            one for each class, which counts where the class is the most probable.
        novelty: What tells how unlike the training pictures a picture is; without it no answer says so.
        reject_unlike: `keyed` answers with an empty label above this novelty; 0 never does.

    Returns:
        The constants whose numbers are in the file.
    """
    placeholders = PlaceholderConstants()
    part = graph_of(head, placeholders.constant) if isinstance(head, TrainedHead) else head
    answers = NamedAnswers(
        classes,
        reject_below=reject_below,
        novelty=None if novelty is None else NoveltyGraph(novelty, placeholders.constant),
        reject_unlike=reject_unlike,
        constant=placeholders.constant,
    )
    signatures = build_signatures(build_network(placeholders.constant), part, spec, answers)
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures)
    placeholders.fill(directory)
    write_records(directory, classes, head, novelty)
    return placeholders


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
