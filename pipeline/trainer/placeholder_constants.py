"""Placeholder constants: only their shapes are traced; their numbers are patched into the written file.

TensorFlow copies what a graph holds some twenty-five times between tracing and the written SavedModel: 90 MB
of weights take 2.3 GB of memory there, and seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from pipeline.errors import SignatureMismatch

PREFIX = "graft_constant_"
_NAME = re.compile(rf"(?:.*/)?{PREFIX}(\d+)")


class PlaceholderConstants:
    """The constants of one model."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.generic]] = []
        self._filled: list[int] = []

    def constant(self, array: NDArray[np.generic]) -> tf.Tensor:
        """Return a constant of the array's shape and type for the graph that is being traced."""
        self._arrays.append(array)
        name = f"{PREFIX}{len(self._arrays) - 1}"
        return tf.constant(0, dtype=array.dtype, shape=array.shape, name=name)  # kept as a single number

    def fill(self, directory: Path) -> None:
        """Put the numbers into a SavedModel.

        Args:
            directory: Of the SavedModel; its fingerprint, which would be wrong, is removed.

        Raises:
            SignatureMismatch: if a constant is not in it.
        """
        path = directory / "saved_model.pb"
        saved = SavedModel.FromString(path.read_bytes())
        self._filled = []
        for number, tensor in _constants(saved):
            filled = tf.make_tensor_proto(self._arrays[number])
            if (filled.dtype, filled.tensor_shape) == (tensor.dtype, tensor.tensor_shape):
                tensor.CopyFrom(filled)
                self._filled.append(number)
        if left := set(range(len(self._arrays))) - set(self._filled):
            raise SignatureMismatch(f"{len(left)} of {len(self._arrays)} constants are not in {path}.")
        path.write_bytes(saved.SerializeToString(deterministic=True))
        (directory / "fingerprint.pb").unlink(missing_ok=True)

    def count(self, array: NDArray[np.generic]) -> int:
        """Return how many constants of the filled file have these numbers."""
        return sum(np.array_equal(self._arrays[number], array) for number in self._filled)


def _constants(saved: SavedModel) -> Iterator[tuple[int, TensorProto]]:
    """Yield the number and the tensor of each constant of ours."""
    for meta in saved.meta_graphs:
        functions = (function.node_def for function in meta.graph_def.library.function)
        for node in chain(meta.graph_def.node, *functions):
            if (match := _NAME.fullmatch(node.name)) is not None:
                yield int(match[1]), node.attr["value"].tensor
