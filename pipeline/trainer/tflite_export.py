"""The TFLite export: the backbone, converted once for its weights, compared with TensorFlow in every job."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

import pipeline
from pipeline.artifacts.model_files import HEAD, TFLITE_NETWORK
from pipeline.backbones.networks.folded import MappedNetwork
from pipeline.npz import read_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.tflite.head import head_of
from pipeline.tflite.manifest import Parity, TFLiteManifest, digest_files
from pipeline.tflite.network import TFLiteNetwork
from pipeline.trainer.shared_cache import share_bytes
from pipeline.types import Float32Outputs, UInt8Images

logger = logging.getLogger(__name__)


def add_tflite_export(
    directory: Path,
    build_network: Callable[[], MappedNetwork],
    *,
    uri: str,
    storage: Storage,
    pixels: UInt8Images,
    expected: Float32Outputs,
    spec: PixelSpec,
    reject_below: float,
    reject_unlike: float = 0.0,
    thresholds: Mapping[str, float] | None = None,
) -> TFLiteManifest:
    """Put the TFLite export beside a SavedModel, converting the backbone if no earlier job did.

    Args:
        directory: The model directory, complete but for this.
        build_network: Returns the frozen network, its weights constants.
        uri: Where the converted backbone is kept.
        storage: The bucket.
        pixels: Pictures of the network's size.
        expected: What the SavedModel answers for them.
        spec: The pixels the backbone is fed.
        reject_below: As in `export_model`.
        reject_unlike: As in `export_model`.
        thresholds: Bounds by class, in place of `reject_below`.
    """

    def write(converted: bytes) -> TFLiteManifest:
        (directory / TFLITE_NETWORK).write_bytes(converted)
        manifest = TFLiteManifest(
            files=digest_files(directory),
            spec=spec, reject_below=reject_below, reject_unlike=reject_unlike, thresholds=thresholds or {},
            parity=_compare(directory, pixels, expected),
            made_by={"graft": pipeline.__version__, "tensorflow": tf.__version__},
        )  # fmt: skip
        manifest.write(directory)  # also where the answers differ, so that the engine reads why
        return manifest

    if storage.exists(uri):
        manifest = write(storage.read_bytes(uri))
        if manifest.is_equal:
            return manifest
        logger.warning("%s does not answer as TensorFlow does; converting again.", uri)
    manifest = write(converted := convert_network(build_network()))
    if manifest.is_equal:
        share_bytes(storage, uri, converted)
    else:
        logger.warning("The TFLite export is not equal, TensorFlow will serve: %s", manifest.parity)
    return manifest


def convert_network(network: MappedNetwork) -> bytes:
    """Convert a backbone to LiteRT's flat buffer, in float32.

    Args:
        network: A `tf.function` from uint8 pixels to pooled features and the feature map.
    """
    gc.collect()  # the graphs that the check loaded refer to themselves, and each holds the weights
    concrete = network.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    # The same flat buffer, without writing and reading a SavedModel on the way.
    converter.experimental_lower_to_saved_model = False
    converted: bytes = converter.convert()
    return converted


def _compare(directory: Path, pixels: UInt8Images, expected: Float32Outputs) -> Parity:
    network = TFLiteNetwork(directory / TFLITE_NETWORK)
    outputs = head_of(read_npz(directory / HEAD)).predict(network.pool(pixels))
    return Parity(pictures=len(pixels), largest_difference=float(np.abs(outputs - expected).max()))
