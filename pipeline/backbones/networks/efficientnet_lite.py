"""EfficientNet-Lite: inverted bottlenecks with ReLU6 and no squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pipeline.backbones.networks.layers import Layers

V = TypeVar("V")

# Repeats, kernel, stride of the first, expansion, output channels: those of Lite0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLite:
    """One network of the family, which differ in how wide and deep the stages are.

    Args:
        width: Factor of the output channels of each stage.
        depth: Factor of the repeats of each stage but the first and the last.
    """

    width: float
    depth: float

    def __call__(self, layers: Layers[V], pixels: V) -> V:
        """Lay out the network from scaled pixels to 1280 pooled features."""
        value = layers.conv(pixels, "stem", 32, (3, 3), strides=2, activation="relu6")
        channels = 32
        for number, (kernel, strides, expansion, filters) in enumerate(self._blocks()):
            name, entry = f"block{number:02d}", value
            if expansion != 1:
                width = channels * expansion
                value = layers.conv(value, f"{name}_expand", width, (1, 1), activation="relu6")
            value = layers.depthwise(value, f"{name}_depthwise", kernel, strides=strides)
            value = layers.conv(value, f"{name}_project", filters, (1, 1))
            if strides == 1 and channels == filters:
                value = layers.add(value, entry)
            channels = filters
        value = layers.conv(value, "head", 1280, (1, 1), activation="relu6")
        return layers.global_average(value)

    def _blocks(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield kernel, strides, expansion and output channels of each block."""
        last = len(STAGES) - 1
        for stage, (repeats, kernel, first_stride, expansion, filters) in enumerate(STAGES):
            repeats = repeats if stage in (0, last) else ceil(repeats * self.depth)
            for repeat in range(repeats):
                yield kernel, first_stride if repeat == 0 else 1, expansion, self._scale(filters)

    def _scale(self, filters: int) -> int:
        """Return a number of channels times the width, to the nearest 8 that is not 10 % too few."""
        scaled = filters * self.width
        nearest = max(8, int(scaled + 4) // 8 * 8)
        return nearest if nearest >= 0.9 * scaled else nearest + 8
