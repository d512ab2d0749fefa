"""EfficientNet-Lite0: inverted bottlenecks with ReLU6 and no squeeze-and-excitation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pipeline.backbones.networks.layers import Layers

V = TypeVar("V")

# Repeats, kernel, stride of the first, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(layers: Layers[V], pixels: V) -> V:
    """Lay out the network from scaled pixels to 1280 pooled features."""
    value = layers.conv(pixels, "stem", 32, (3, 3), strides=2, activation="relu6")
    channels, number = 32, 0
    for repeats, kernel, first_stride, expansion, filters in STAGES:
        for repeat in range(repeats):
            strides = first_stride if repeat == 0 else 1
            name, entry = f"block{number:02d}", value
            if expansion != 1:
                width = channels * expansion
                value = layers.conv(value, f"{name}_expand", width, (1, 1), activation="relu6")
            value = layers.depthwise(value, f"{name}_depthwise", kernel, strides=strides)
            value = layers.conv(value, f"{name}_project", filters, (1, 1))
            if strides == 1 and channels == filters:
                value = layers.add(value, entry)
            channels, number = filters, number + 1
    value = layers.conv(value, "head", 1280, (1, 1), activation="relu6")
    return layers.global_average(value)
