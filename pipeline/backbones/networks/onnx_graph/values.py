"""Values that flow through an ONNX graph while it becomes TensorFlow's.

ONNX has the channels of a picture first, TensorFlow's convolutions have them last. A value is turned only
when an operation asks for the other order: a chain of convolutions and activations is never turned.

The number of pictures in a batch is open. In sizes it counts as `BATCH`, a prime that no layer has as a size,
so that the file's own arithmetic with sizes keeps it: a size of `64 * BATCH` is 64 windows of each picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf

from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 10_007
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
Sizes: TypeAlias = tuple[int, ...]


class Value:
    """A tensor, or an array that is known already.

    Args:
        first: In the file's own order of axes.
        last: Of rank 4, with the second axis of the file put last.
        sizes: In the file's order; needed where TensorFlow does not know them.
    """

    def __init__(
        self,
        first: tf.Tensor | NDArray[Any] | None = None,
        last: tf.Tensor = None,
        sizes: Sizes | None = None,
    ) -> None:
        self._first, self._last = first, last
        self._sizes = sizes

    @property
    def is_constant(self) -> bool:
        """Whether it is an array."""
        return isinstance(self._first, np.ndarray | np.generic)

    @property
    def is_last(self) -> bool:
        """Whether only the order with the channels last is there."""
        return self._first is None

    @property
    def sizes(self) -> Sizes:
        """Lengths of the axes in the file's order."""
        if self._sizes is None:
            shape = tuple(self._last.shape if self._first is None else self._first.shape)
            shape = tuple(shape[axis] for axis in TO_FIRST) if self.is_last else shape
            if None in shape:
                raise NetworkRefused(f"its tensors have sizes that only a run tells: {shape}")
            self._sizes = tuple(int(size) for size in shape)
        return self._sizes

    def with_sizes(self, sizes: Sizes | None) -> Value:
        """Return the same value with the sizes that an earlier pass found."""
        return self if self.is_constant or sizes is None else Value(self._first, self._last, sizes)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.sizes)

    @property
    def array(self) -> NDArray[Any]:
        """What is known without pictures.

        Raises:
            NetworkRefused: if it depends on the pictures.
        """
        if not isinstance(self._first, np.ndarray | np.generic):
            raise NetworkRefused("an argument that must be a constant depends on the pictures")
        return np.asarray(self._first)

    @property
    def integers(self) -> list[int]:
        """What is known without pictures, as a list of integers."""
        return [int(value) for value in self.array.reshape(-1)]

    def first(self) -> tf.Tensor:
        """Return the tensor in the file's order."""
        if self.is_constant:
            return tf.constant(self._first)
        if self._first is None:
            self._first = self._turn(self._last, TO_FIRST, self.sizes)
        return self._first

    def last(self) -> tf.Tensor:
        """Return the tensor of rank 4 with the channels last."""
        if self.is_constant:
            return tf.constant(np.transpose(self.array, TO_LAST))
        if self._last is None:
            self._last = self._turn(self._first, TO_LAST, tuple(self.sizes[axis] for axis in TO_LAST))
        return self._last

    def _turn(self, tensor: tf.Tensor, axes: tuple[int, ...], sizes: Sizes) -> tf.Tensor:
        if self.sizes[2:] == (1, 1):  # of a single place: the numbers are in the same order
            return tf.reshape(tensor, static_sizes(sizes))
        return tf.transpose(tensor, axes)

    def reshape(self, sizes: Sizes) -> Value:
        """Return the same numbers with other sizes."""
        if self.is_constant:
            return Value(self.array.reshape(sizes))
        is_row = self.is_last and self.sizes[2:] == (1, 1)  # either order is the same numbers
        tensor = self._last if is_row else self.first()
        return Value(tf.reshape(tensor, static_sizes(sizes)), sizes=sizes)


def static_sizes(sizes: Sizes) -> list[int]:
    """Return sizes for TensorFlow, where the one that depends on the batch is open.

    Raises:
        NetworkRefused: if several do.
    """
    lengths = [-1 if size % BATCH == 0 and size else size for size in sizes]
    if lengths.count(-1) > 1:
        raise NetworkRefused(
            "pictures of a batch are related to each other, so they cannot be batched freely"
        )
    return lengths


def as_values(tensors: Sequence[tf.Tensor]) -> tuple[Value, ...]:
    """Return tensors of the file's order as values."""
    return tuple(Value(tensor) for tensor in tensors)
