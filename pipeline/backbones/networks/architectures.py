"""Every architecture by the name of its backbone, and the weights it needs; no TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.backbones.networks.efficientnet_lite import EfficientNetLite
from pipeline.backbones.networks.inception_v3 import inception_v3
from pipeline.backbones.networks.layers import Layers, V


class Architecture(Protocol):
    """Lays out a network from scaled pixels to pooled features."""

    def __call__(self, layers: Layers[V], pixels: V) -> V:
        """Return what the last layer gives."""


ARCHITECTURES: dict[str, Architecture] = {
    "efficientnet_lite0": EfficientNetLite(width=1.0, depth=1.0),
    "efficientnet_lite1": EfficientNetLite(width=1.0, depth=1.1),
    "efficientnet_lite2": EfficientNetLite(width=1.1, depth=1.2),
    "inception_v3": inception_v3,
}


class _ShapeList:
    """Layers that only note the shapes of their weights; what is passed on is the number of channels.

    Args:
        scaled: Whether batch norm multiplies by a learned `gamma`.
    """

    def __init__(self, *, scaled: bool) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._norm = ("beta", "mean", "variance", *(("gamma",) if scaled else ()))

    def conv(
        self, value: int, name: str, filters: int, kernel: tuple[int, int], **_: int | str | None
    ) -> int:
        self._note(name, (*kernel, value, filters), filters)
        return filters

    def depthwise(self, value: int, name: str, kernel: int, *, strides: int = 1) -> int:
        self._note(name, (kernel, kernel, value, 1), value)
        return value

    def max_pool(self, value: int) -> int:
        return value

    def average_pool(self, value: int) -> int:
        return value

    def global_average(self, value: int) -> int:
        return value

    def concat(self, values: Sequence[int]) -> int:
        return sum(values)

    def add(self, left: int, right: int) -> int:
        return left

    def _note(self, name: str, kernel: tuple[int, ...], channels: int) -> None:
        self.shapes[f"{name}/kernel"] = kernel
        for part in self._norm:
            self.shapes[f"{name}/{part}"] = (channels,)


def weight_shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight of a backbone, in the order its layers are made."""
    layers = _ShapeList(scaled=backbone != "inception_v3")  # Keras's InceptionV3 has no gamma
    ARCHITECTURES[backbone](layers, 3)
    return layers.shapes
