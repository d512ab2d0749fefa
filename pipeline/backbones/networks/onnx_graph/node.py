"""One operation of an ONNX graph with its inputs and attributes, and arrays of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.networks.onnx_graph.values import Value
from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation with what it is given.

    Args:
        proto: As the file has it.
        inputs: Its values; None where an optional one is left out.
        opset: Version of ONNX's operations that the file is written for.
        is_single: Whether the file was exported for batches of one picture.
    """

    proto: onnx.NodeProto
    inputs: Sequence[Value | None]
    opset: int
    is_single: bool

    @property
    def kind(self) -> str:
        """Name of the operation, `Conv` for instance."""
        return str(self.proto.op_type)

    def value(self, number: int) -> Value:
        """Return an input that must be there.

        Raises:
            NetworkRefused: if it is not.
        """
        value = self.optional(number)
        if value is None:
            raise NetworkRefused(f"it has no input {number}")
        return value

    def optional(self, number: int) -> Value | None:
        """Return an input, or None if it is left out."""
        return self.inputs[number] if number < len(self.inputs) else None

    def has(self, name: str) -> bool:
        """Return True if an attribute is set."""
        return any(each.name == name for each in self.proto.attribute)

    def _attribute(self, name: str) -> onnx.AttributeProto | None:
        return next((each for each in self.proto.attribute if each.name == name), None)

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        attribute = self._attribute(name)
        return default if attribute is None else int(attribute.i)

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        attribute = self._attribute(name)
        return default if attribute is None else float(attribute.f)

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is text."""
        attribute = self._attribute(name)
        return default if attribute is None else attribute.s.decode()

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Return an attribute that is a list of integers."""
        attribute = self._attribute(name)
        return list(default if attribute is None else attribute.ints)

    def integers_or_input(self, name: str, number: int) -> list[int] | None:
        """Return integers that newer versions of ONNX take as an input and older ones as an attribute."""
        value = self.optional(number)
        if value is not None:
            return value.integers
        return self.integers(name) if self.has(name) else None

    def tensor(self, name: str) -> NDArray[Any] | None:
        """Return an attribute that is a tensor."""
        attribute = self._attribute(name)
        return None if attribute is None else read_tensor(attribute.t)


def read_tensor(tensor: onnx.TensorProto) -> NDArray[Any]:
    """Return a tensor of the file as an array.

    Raises:
        NetworkRefused: if its numbers are of a type that is not converted.
    """
    import onnx

    array = np.asarray(onnx.numpy_helper.to_array(tensor))
    if array.dtype not in (np.float32, np.int64, np.int32, np.uint8, np.int8, np.bool_):
        raise NetworkRefused(
            f"its tensor {tensor.name!r} is {array.dtype}; weights must be float32. Export the network in "
            "float32"
        )
    return array
