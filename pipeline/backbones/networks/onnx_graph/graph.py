"""The operations of an ONNX graph, one after the other, as TensorFlow's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.backbones.networks.onnx_graph.folding import fold_node
from pipeline.backbones.networks.onnx_graph.node import Node, read_tensor
from pipeline.backbones.networks.onnx_graph.table import OF_CONSTANTS, OPERATIONS
from pipeline.backbones.networks.onnx_graph.values import Sizes, Value
from pipeline.errors import NetworkRefused
from pipeline.onnx_archive import STANDARD_DOMAINS

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@dataclass(slots=True, kw_only=True)
class OnnxGraph:
    """A graph that is run twice: for batches of a known size, then for open ones with the sizes found.

    Args:
        model: The file.
        is_single: Whether it was exported for batches of one picture.
        sizes: Of every tensor, once a pass was made.
        weights: The arrays of the file.
    """

    model: onnx.ModelProto
    is_single: bool
    sizes: dict[str, Sizes] = field(default_factory=dict)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    _folded: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tensor in self.model.graph.initializer:
            self.weights[tensor.name] = read_tensor(tensor)

    def run(self, name: str, value: Value, *wanted: str) -> Value:
        """Return a tensor, the last of those that are wanted.

        Args:
            name: Of the input.
            value: The input.
            wanted: Names of tensors.

        Raises:
            NetworkRefused: naming the operation that cannot be converted.
        """
        values: dict[str, Value] = {each: Value(array) for each, array in self.weights.items()}
        values[name] = value
        for proto in needed_nodes(self.model.graph, *wanted):
            missing = [each for each in proto.input if each and each not in values]
            if missing:
                raise NetworkRefused(f"{describe(proto)} needs {missing[0]!r}, which nothing computes")
            results = self._convert(proto, values)
            for output, result in zip(proto.output, results, strict=False):
                values[output] = result.with_sizes(self.sizes.get(output))
                if output not in self.sizes:
                    self.sizes[output] = result.sizes
        return values[wanted[-1]]

    def _convert(self, proto: onnx.NodeProto, values: Mapping[str, Value]) -> tuple[Value, ...]:
        inputs = [values[name] if name else None for name in proto.input]
        opset = max(each.version for each in self.model.opset_import if each.domain in STANDARD_DOMAINS)
        node = Node(proto=proto, inputs=inputs, opset=opset, is_single=self.is_single)
        try:
            if proto.op_type not in OF_CONSTANTS and all(each is None or each.is_constant for each in inputs):
                return tuple(Value(array) for array in self._fold(node))
            if proto.op_type not in OPERATIONS:
                raise NetworkRefused("this operation is not among those that are converted")
            result = OPERATIONS[proto.op_type](node)
        except NetworkRefused as error:
            raise NetworkRefused(f"{describe(proto)} cannot be converted: {error}") from error
        except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:  # and TensorFlow's
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise NetworkRefused(f"{describe(proto)} cannot be converted: {text[:300]}") from error
        return result if isinstance(result, tuple) else (result,)

    def _fold(self, node: Node) -> list[NDArray[Any]]:
        key = node.proto.output[0]
        if key not in self._folded:
            inputs = [None if each is None else each.array for each in node.inputs]
            self._folded[key] = fold_node(self.model, node.proto, inputs)
        return self._folded[key]


def needed_nodes(graph: onnx.GraphProto, *wanted: str) -> list[onnx.NodeProto]:
    """Return the operations that tensors depend on, in the order of the file."""
    producers = {name: node for node in graph.node for name in node.output}
    names, seen = list(wanted), set()
    while names:
        node = producers.get(names.pop())
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            names += node.input
    return [node for node in graph.node if id(node) in seen]


def describe(proto: onnx.NodeProto) -> str:
    """Return an operation for a message."""
    return f"its operation {proto.op_type} ({proto.name or proto.output[0]})"
