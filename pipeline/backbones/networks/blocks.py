"""The blocks of a backbone, which fine-tuning counts from the last; no TensorFlow.

A block of an EfficientNet-Lite is an inverted bottleneck, a block of InceptionV3 one of its modules `mixed0`
to `mixed10`. What comes after the last block belongs to it. What comes before the first, the stem, is trained
only with the whole network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Literal, TypeAlias

from pipeline.backbones.networks.architectures import ARCHITECTURES
from pipeline.backbones.table import find_backbone

Shape: TypeAlias = "tuple[int, int, int]"  # rows, columns and channels
# The convolutions that begin the modules of InceptionV3, which are numbered in the order they are made.
_INCEPTION_STARTS = (5, 12, 19, 26, 30, 40, 50, 60, 70, 76, 85)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a backbone.

    Args:
        layer: The first layer of the block, which is fed the block's input.
        shape: Of the feature map that it is fed.
    """

    layer: str
    shape: Shape

    @property
    def num_bytes(self) -> int:
        """Size of the feature map of one picture."""
        return 4 * prod(self.shape)


@cache
def list_blocks(backbone: str) -> tuple[Block, ...]:
    """Return the blocks of a row of the backbone table, the first one first."""
    spec, layers = find_backbone(backbone).spec, _InputShapes()
    ARCHITECTURES[backbone](layers, (spec.height, spec.width, 3))
    return tuple(Block(layer=name, shape=layers.inputs[name]) for name in _block_starts(layers.inputs))


def trained_layers(backbone: str, blocks: int | None) -> tuple[str, ...]:
    """Return the convolutions that are trained with the last blocks, in the order they are made.

    Args:
        backbone: A row of the backbone table.
        blocks: How many; None for the whole network, stem and all.
    """
    spec, layers = find_backbone(backbone).spec, _InputShapes()
    ARCHITECTURES[backbone](layers, (spec.height, spec.width, 3))
    names = tuple(layers.inputs)
    if blocks is None:
        return names
    return names[names.index(list_blocks(backbone)[-blocks].layer) :] if blocks else ()


def _block_starts(names: Sequence[str] | dict[str, Shape]) -> list[str]:
    if "conv00" in names:
        return [f"conv{number:02d}" for number in _INCEPTION_STARTS]
    starts = {name.partition("_")[0]: name for name in reversed(list(names)) if name.startswith("block")}
    return [starts[block] for block in sorted(starts)]


class _InputShapes:
    """Layers that only note the shape of what each is fed; what is passed on is a shape."""

    def __init__(self) -> None:
        self.inputs: dict[str, Shape] = {}

    def conv(
        self,
        value: Shape,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> Shape:
        self.inputs[name] = value
        rows, columns = (
            _slide(side, length, strides, padding) for side, length in zip(value[:2], kernel, strict=True)
        )
        return rows, columns, filters

    def depthwise(self, value: Shape, name: str, kernel: int, *, strides: int = 1) -> Shape:
        return self.conv(value, name, value[2], (kernel, kernel), strides=strides)

    def max_pool(self, value: Shape) -> Shape:
        return _slide(value[0], 3, 2, "valid"), _slide(value[1], 3, 2, "valid"), value[2]

    def average_pool(self, value: Shape) -> Shape:
        return value

    def global_average(self, value: Shape) -> Shape:
        return 1, 1, value[2]

    def concat(self, values: Sequence[Shape]) -> Shape:
        rows, columns, _ = values[0]
        return rows, columns, sum(channels for _, _, channels in values)

    def add(self, left: Shape, right: Shape) -> Shape:
        return left


def _slide(length: int, kernel: int, strides: int, padding: Literal["same", "valid"]) -> int:
    """Return how many places a kernel has along one side."""
    return -(-length // strides) if padding == "same" else (length - kernel) // strides + 1
