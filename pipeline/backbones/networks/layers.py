"""What an architecture is written in: a few verbs, which each kind of network carries out its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

V = TypeVar("V")  # what a network passes from layer to layer: a tensor, or only its channels
BATCH_NORM_EPSILON = 1e-3  # of both architectures


class Layers(Protocol[V]):
    """The layers that the architectures need; `conv` is convolution, batch norm and activation."""

    def conv(
        self,
        value: V,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> V:
        """Convolve, normalise, activate."""

    def depthwise(self, value: V, name: str, kernel: int, *, strides: int = 1) -> V:
        """Convolve each channel by itself, normalise, activate with ReLU6."""

    def max_pool(self, value: V) -> V:
        """Pool 3 x 3 with stride 2, no padding."""

    def average_pool(self, value: V) -> V:
        """Pool 3 x 3 with stride 1, padding not counted."""

    def global_average(self, value: V) -> V:
        """Average over rows and columns."""

    def concat(self, values: Sequence[V]) -> V:
        """Put channels behind each other."""

    def add(self, left: V, right: V) -> V:
        """Add element by element."""
