"""What an ONNX file tells of its network: its input, the output with the features, its own scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.backbones.networks.onnx_graph.graph import needed_nodes
from pipeline.backbones.networks.onnx_graph.node import read_tensor
from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_PASSED_ON = ("Cast", "Identity", "Transpose")
_PROBABILITIES = ("LogSoftmax", "Sigmoid", "Softmax")
_RESHAPES = ("Flatten", "Identity", "Reshape", "Squeeze")
_WITHOUT_EFFECT = ("Dropout", "Identity")
_LARGEST_SCALED = 16.0  # what pixels of 0 to 255 stay below where a graph scales them itself


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """The one input of a network.

    Args:
        name: Its name.
        channels_last: Whether it is (batch, height, width, 3) and not (batch, 3, height, width).
        size: Height and width; None where the file leaves one open.
        is_single: Whether the file takes one picture at a time.
        is_bytes: Whether it takes uint8.
    """

    name: str
    channels_last: bool
    size: tuple[int | None, int | None]
    is_single: bool
    is_bytes: bool


class OnnxReader:
    """A graph with its constants and who computes and reads each tensor.

    Args:
        graph: Of the file.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.producers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._results = {each.name for each in graph.output}

    def only_user(self, name: str) -> onnx.NodeProto | None:
        """Return what reads a tensor, or None if several operations do or it is an output."""
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and name not in self._results else None

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return an array that is written in the file."""
        if name in self._initializers:
            return read_tensor(self._initializers[name])
        node = self.producers.get(name)
        if node is None or node.op_type != "Constant" or node.attribute[0].name != "value":
            return None
        return read_tensor(node.attribute[0].t)

    def find_input(self) -> NetworkInput:
        """Return the input.

        Raises:
            NetworkRefused: if it is no batch of pictures.
        """
        inputs = [each for each in self.graph.input if each.name not in self._initializers]
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs) or "none"
            raise NetworkRefused(
                f"it must have one input, a batch of pictures; it has {names}. Export the part that reads "
                "pictures"
            )
        kind = inputs[0].type.tensor_type
        shape = tuple(dim.dim_value or None for dim in kind.shape.dim)
        last = _channels_last(shape)
        batch, (height, width) = shape[0], shape[1:3] if last else shape[2:4]
        if batch not in (None, 1):
            raise NetworkRefused(f"it takes {batch} pictures at a time. Export it with a dynamic batch axis")
        return NetworkInput(
            name=inputs[0].name,
            channels_last=last,
            size=(height, width),
            is_single=batch == 1,
            is_bytes=_is_bytes(kind.elem_type),
        )

    def find_output(self, named: str) -> str:
        """Return the name of the tensor that has the features.

        Args:
            named: A tensor or an operation that the YAML names; empty to find it.

        Raises:
            NetworkRefused: if it is neither named nor found.
        """
        if named:
            node = next((each for each in self.graph.node if each.name == named), None)
            if named in self.producers or node is None:
                return named
            return str(node.output[0])
        flat = [each.name for each in self.graph.output if len(each.type.tensor_type.shape.dim) == 2]
        if len(self.graph.output) > 1 and len(flat) != 1:
            names = ", ".join(each.name for each in self.graph.output)
            raise NetworkRefused(f"it has {len(self.graph.output)} outputs; set `output` to one of: {names}")
        (name,) = flat if len(self.graph.output) > 1 else [self.graph.output[0].name]
        return self._before_classes(name)

    def _before_classes(self, output: str) -> str:
        """Return what the class layer is fed if the graph ends in one, else the output."""
        node, is_classes = self.producers.get(output), False
        while node is not None and node.op_type in (*_PROBABILITIES, *_RESHAPES):
            is_classes |= node.op_type in _PROBABILITIES
            node = self.producers.get(node.input[0])
        fed = None if node is None else self._fed_to_classes(node, is_classes=is_classes)
        while fed and fed in self.producers and self.producers[fed].op_type in _WITHOUT_EFFECT:
            fed = str(self.producers[fed].input[0])
        return fed or output

    def _fed_to_classes(self, node: onnx.NodeProto, *, is_classes: bool) -> str | None:
        """Return what a linear layer is fed; one without a bias is a projection unless classes follow."""
        if node.op_type == "Add":
            products = [self.producers.get(name) for name in node.input]
            product = next((each for each in products if each and each.op_type == "MatMul"), None)
            has_bias = any(self.constant(name) is not None for name in node.input)
            node, is_classes = product or node, is_classes or has_bias
        is_layer = node.op_type in ("Gemm", "MatMul") or (
            node.op_type == "Conv" and self._is_of_one_place(node)
        )
        if not is_layer or not self._is_computed_without_pictures(node.input[1]):
            return None
        return str(node.input[0]) if is_classes or len(node.input) > 2 else None

    def _is_of_one_place(self, node: onnx.NodeProto) -> bool:
        kernel, name = self.constant(node.input[1]), str(node.input[0])
        while (before := self.producers.get(name)) and before.op_type not in ("Conv", "GlobalAveragePool"):
            if before.op_type.startswith("Reduce") or not before.input:
                break
            name = str(before.input[0])
        is_pooled = before is not None and (
            before.op_type == "GlobalAveragePool" or before.op_type.startswith("Reduce")
        )
        return kernel is not None and kernel.shape[2:] == (1, 1) and is_pooled

    def _is_computed_without_pictures(self, name: str) -> bool:
        source = self.find_input().name
        return all(source not in node.input for node in needed_nodes(self.graph, name)) and name != source

    def find_scaling(self, source: NetworkInput) -> str:
        """Return which pixels a graph takes that scales them itself, a name of `SCALINGS`; else nothing."""
        if source.is_bytes:
            return "levels"
        name, scaled, scales = source.name, np.array([0.0, 255.0]), False
        while (node := self.only_user(name)) is not None:
            if node.op_type not in _PASSED_ON:
                changed = self._scale(node, name, scaled)
                if changed is None:
                    break
                scaled, scales = changed, True
            name = node.output[0]
        if not scales:
            return ""
        return "levels" if np.abs(scaled).max() <= _LARGEST_SCALED else "unit"

    def _scale(self, node: onnx.NodeProto, name: str, values: NDArray[Any]) -> NDArray[Any] | None:
        """Return the ends of a range after an operation with a constant, None after another operation."""
        functions = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
        if node.op_type not in functions or node.input[0] != name:
            return None
        constant = self.constant(node.input[1])
        if constant is None or constant.size not in (1, 3):
            return None
        return np.asarray(functions[node.op_type](values, np.abs(constant).mean()))


def _channels_last(shape: tuple[int | None, ...]) -> bool:
    if len(shape) != 4:
        raise NetworkRefused(
            f"its input must be (batch, 3, height, width) or (batch, height, width, 3). {_received(shape)}"
        )
    if shape[1] == 3 or (shape[1] is None and shape[3] != 3):
        return False
    if shape[3] == 3:
        return True
    channels = shape[3] if shape[1] is None else shape[1]
    raise NetworkRefused(
        f"its input has {channels} channels; pictures have 3, red, green and blue. {_received(shape)}"
    )


def _received(shape: tuple[int | None, ...]) -> str:
    return f"Received: ({', '.join(str(size or '?') for size in shape)})"


def _is_bytes(kind: int) -> bool:
    import onnx

    if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
        name = onnx.TensorProto.DataType.Name(kind).lower()
        raise NetworkRefused(f"its input is {name}; export the network in float32")
    return kind == onnx.TensorProto.UINT8
