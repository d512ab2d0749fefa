"""A whole network's logits of pictures, and its layers: a child process, so that callers need no TensorFlow.

`python -m pipeline.backbones.inspection` reads a request from stdin, `{"layers": BACKBONE}` or
`{"classify": [FILE, ...], "backbone", "weights"}`, and writes one JSON document to stdout: the answer, or
`{"error": {"type", "message"}}`. TensorFlow is imported after everything that can be refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backbones.imagenet import ImageNetWeights, read_imagenet_weights
from pipeline.backbones.table import Backbone, find_backbone
from pipeline.errors import PipelineError, SourceNotFound, UndecodableImage
from pipeline.pixels.host import decode_picture, resize_picture
from pipeline.types import JsonDict, JsonObject, JsonValue, UInt8Image, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_SIZE = 16


def imagenet_logits(backbone: str, weights: ImageNetWeights, pixels: UInt8Images) -> NDArray[np.float32]:
    """Return what the classifier layer puts out.

    Shapes:
        pixels: (num_images, height, width, 3) uint8.  returns: (num_images, 1000) float32.
    """
    from pipeline.backbones.networks.folded import build_network

    network = build_network(backbone, weights.trunk)
    starts = range(0, len(pixels), BATCH_SIZE)
    features = np.concatenate([network(pixels[start : start + BATCH_SIZE]).numpy() for start in starts])
    logits: NDArray[np.float32] = features @ weights.kernel + weights.bias
    return logits


def describe_layers(backbone: str) -> list[JsonObject]:
    """Return the layers of a backbone as Keras has them; the one a new head is put on is named `pooled`."""
    from pipeline.backbones.networks.keras_model import build_keras_model

    return [
        {
            "index": index,
            "name": layer.name,
            "type": type(layer).__name__,
            "output_shape": list(layer.output.shape),
            "parameters": layer.count_params(),
        }
        for index, layer in enumerate(build_keras_model(backbone).layers)
    ]


def classify_files(backbone: str, weights: str, files: Sequence[str]) -> list[list[float]]:
    """Return the logits of picture files.

    Raises:
        SourceNotFound: if a file is not there.
        UndecodableImage: if one is no picture; the message names it.
    """
    row = find_backbone(backbone)
    pixels = np.stack([_read_pixels(file, row) for file in files])
    logits: list[list[float]] = imagenet_logits(
        backbone, read_imagenet_weights(row, weights), pixels
    ).tolist()
    return logits


def _read_pixels(file: str, backbone: Backbone) -> UInt8Image:
    try:
        return resize_picture(decode_picture(Path(file).read_bytes()), backbone.spec)
    except OSError as error:
        raise SourceNotFound(f"{file} cannot be read: {error.strerror}. Name a picture file.") from error
    except UndecodableImage as error:
        raise UndecodableImage(f"{file}: {error}", reason=error.reason) from error


def answer(request: JsonDict) -> JsonValue:
    """Return what a request asks for."""
    if "layers" in request:
        return describe_layers(find_backbone(request["layers"]).name)
    return classify_files(request["backbone"], request["weights"], request["classify"])


def main() -> int:
    """Answer one request."""
    try:
        response = answer(json.load(sys.stdin))
    except PipelineError as error:
        response = {"error": {"type": type(error).__name__, "message": str(error)}}
    json.dump(response, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
