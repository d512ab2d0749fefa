"""What an architecture is written in: a few verbs, which each kind of network carries out its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

Value: TypeAlias = Any  # whatever a network passes from layer to layer
BATCH_NORM_EPSILON = 1e-3  # of both architectures


class Layers(Protocol):
    """The layers that the architectures need; `conv` is convolution, batch norm and activation."""

    def conv(
        self,
        value: Value,
        name: str,
        filters: int,
        kernel: tuple[int, int],
        *,
        strides: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["relu", "relu6"] | None = None,
    ) -> Value:
        """Convolve, normalise, activate."""

    def depthwise(self, value: Value, name: str, kernel: int, *, strides: int = 1) -> Value:
        """Convolve each channel by itself, normalise, activate with ReLU6."""

    def max_pool(self, value: Value) -> Value:
        """Pool 3 x 3 with stride 2, no padding."""

    def average_pool(self, value: Value) -> Value:
        """Pool 3 x 3 with stride 1, padding not counted."""

    def global_average(self, value: Value) -> Value:
        """Average over rows and columns."""

    def concat(self, values: Sequence[Value]) -> Value:
        """Put channels behind each other."""

    def add(self, left: Value, right: Value) -> Value:
        """Add element by element."""
