"""The frozen network in TensorFlow: traced when the first picture needs it, dropped before the export."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backbones.table import Backbone
from pipeline.errors import WeightsMismatch
from pipeline.storage import Storage
from pipeline.trainer.shared_cache import hash_file
from pipeline.types import Float32Features, UInt8Images

if TYPE_CHECKING:
    from pipeline.backbones.networks.folded import MappedNetwork


class FrozenNetwork:
    """The folded backbone, its weights checked.

    Args:
        backbone: Which one.
        uri: Its staged weights; their SHA-256 is the name.
        storage: Where they are.

    Raises:
        WeightsMismatch: if the bytes are not those that the name promises.
    """

    def __init__(self, backbone: Backbone, uri: str, storage: Storage) -> None:
        path = weights_path(uri, storage)
        # TensorFlow takes seconds to import: only when the weights are the right ones.
        from pipeline.backbones.opened import open_network

        self.build = open_network(path, backbone.name, backbone.spec)
        self._function: MappedNetwork | None = None

    def __call__(self, pixels: UInt8Images) -> Float32Features:
        """Return the pooled features.

        Shapes:
            pixels: (batch, height, width, 3) uint8.  returns: (batch, feature_width) float32.
        """
        self._function = self._function or self.build()
        features: Float32Features = self._function(pixels)[0].numpy()
        return features

    def release(self) -> None:
        """Drop what was traced: TensorFlow holds several copies of the weights."""
        self._function = None
        gc.collect()


def weights_path(uri: str, storage: Storage) -> Path:
    """Return a local file of staged weights, whose URI ends in their SHA-256.

    Raises:
        WeightsMismatch: if the bytes are not those that the name promises.
    """
    path = storage.local_path(uri)
    digest = hash_file(path)
    if digest != uri.rpartition("/")[2]:
        raise WeightsMismatch(
            f"The bytes of {uri} have the SHA-256 {digest}; stage the weights again.", uri=uri
        )
    return path
