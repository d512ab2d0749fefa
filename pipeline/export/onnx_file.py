"""One ONNX file of a trunk and a head: pixels in, class probabilities out; made without TensorFlow.

The operations of the TFLite trunk are written one by one as those of ONNX. TFLite has channels last and ONNX
first: pictures are turned once, and so are the kernels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.errors import ConfigError, TFLiteUnavailable
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import LogisticHead, TrainedHead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.types import Float32Outputs, UInt8Images

OPSET, IR_VERSION = 18, 8  # read by ONNX Runtime 1.14 and newer
INPUT, OUTPUT = "pixels", "probabilities"
SHORTEST = np.float32(1e-12)  # a row of zeros stays one, as in `unit_rows`
ELEMENTWISE = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}
POOLS = {"AVERAGE_POOL_2D": "AveragePool", "MAX_POOL_2D": "MaxPool"}
Operator: TypeAlias = "Any"  # an `OperatorT` of ai_edge_litert's generated schema, which has no types
Options: TypeAlias = "Any"  # of an operator, likewise


def build_onnx_file(network: bytes, head: TrainedHead, labels: Sequence[str], spec: PixelSpec) -> bytes:
    """Return an ONNX model that runs a network and a head.

    Args:
        network: The flat buffer of the trunk, whose output of rank 2 is the pooled features.
        head: The trained layers.
        labels: The classes, kept in the model's metadata.
        spec: What the network is fed.

    Returns:
        A model of one input `pixels`, (batch, height, width, 3) uint8, and one output `probabilities`,
        (batch, classes) float32.

    Raises:
        ConfigError: if the packages that write and check ONNX are not installed.
        TFLiteUnavailable: naming an operation of the network that cannot be written.
    """
    _require_packages()
    import onnx
    from onnx import helper

    graph = _Graph()
    features = _Trunk(network, graph).convert()
    _add_head(graph, features, head)
    shape: list[str | int | None] = ["batch", spec.height, spec.width, 3]
    pixels = helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, shape)
    outputs = helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", len(labels)])
    made = helper.make_graph(graph.nodes, "classifier", [pixels], [outputs], graph.constants)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="graft",
    )
    helper.set_model_props(model, {"labels": json.dumps(list(labels)), "pixels": json.dumps(spec.to_dict())})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"ONNX exports need the Python packages onnx and onnxruntime, and {' and '.join(missing)} "
            "cannot be imported here: pip install 'graft[onnx]'."
        )


def run_onnx_file(data: bytes, pixels: UInt8Images) -> Float32Outputs:
    """Return the probabilities that an ONNX model gives.

    Shapes:
        pixels: (batch, height, width, 3) uint8.  returns: (batch, classes) float32.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    [outputs] = session.run([OUTPUT], {INPUT: pixels})
    return np.asarray(outputs, np.float32)


class _Graph:
    """Nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; return the name of its output."""
        from onnx import helper

        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, array: NDArray[Any]) -> str:
        """Append a constant; return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _add_head(graph: _Graph, features: str, head: TrainedHead) -> None:
    if isinstance(head, LogisticHead):
        length = graph.add("ReduceL2", features, graph.constant(np.array([1])), keepdims=1)
        entry = graph.add("Div", features, graph.add("Max", length, graph.constant(np.array([SHORTEST]))))
    else:
        kernel, bias = graph.constant(head.hidden_kernel), graph.constant(head.hidden_bias)
        entry = graph.add("Relu", graph.add("Gemm", features, kernel, bias))
    kernel, bias = graph.constant(head.output_kernel), graph.constant(head.output_bias)
    graph.add("Softmax", graph.add("Gemm", entry, kernel, bias), output=OUTPUT, axis=-1)


class _Trunk:
    """Writes the operations of a TFLite network into an ONNX graph.

    Args:
        network: The flat buffer.
        graph: Where they go.
    """

    def __init__(self, network: bytes, graph: _Graph) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(network, 0))
        [self._source] = self._model.subgraphs
        self._graph = graph
        self._kinds = {code: name for name, code in vars(schema.BuiltinOperator).items()}
        self._activations: dict[int, Callable[[str], str]] = {
            schema.ActivationFunctionType.NONE: lambda value: value,
            schema.ActivationFunctionType.RELU: lambda value: graph.add("Relu", value),
            schema.ActivationFunctionType.RELU6: self._clip,
        }
        writers: Mapping[str, Callable[[Operator], str]] = {
            "CAST": self._cast,
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "CONCATENATION": self._concat,
            "MEAN": self._mean,
        }
        self._writers = {
            **writers,
            **dict.fromkeys(ELEMENTWISE, self._elementwise),
            **dict.fromkeys(POOLS, self._pool),
        }

    def convert(self) -> str:
        """Write every operation; return the name of the pooled features."""
        [pixels] = self._source.inputs
        self._names = {int(pixels): self._graph.add("Transpose", INPUT, perm=[0, 3, 1, 2])}
        for operator in self._source.operators:
            kind = self._kind(operator)
            if kind not in self._writers:
                raise TFLiteUnavailable(
                    f"The network has the operation {kind}, which this export cannot write as ONNX; "
                    "export the format tflite or savedmodel"
                )
            [output] = operator.outputs
            self._names[int(output)] = self._writers[kind](operator)
        [pooled] = [index for index in self._source.outputs if len(self._source.tensors[index].shape) == 2]
        return self._names[int(pooled)]

    def _kind(self, operator: Operator) -> str:
        return str(self._kinds[self._model.operatorCodes[operator.opcodeIndex].builtinCode])

    def _array(self, index: int) -> NDArray[Any]:
        tensor = self._source.tensors[index]
        kind = np.int32 if tensor.type == self._schema.TensorType.INT32 else np.float32
        return np.asarray(self._model.buffers[tensor.buffer].data).view(kind).reshape(tensor.shape)

    def _value(self, index: int) -> str:
        """Return the name of an input: what an operation gave, or a number for each channel."""
        if int(index) not in self._names:
            array = self._array(index)
            channels = array.reshape(-1, 1, 1) if array.size > 1 else array.reshape(())
            self._names[int(index)] = self._graph.constant(channels)
        return self._names[int(index)]

    def _clip(self, value: str) -> str:
        limits = (self._graph.constant(np.array(limit, np.float32)) for limit in (0, 6))
        return self._graph.add("Clip", value, *limits)

    def _activate(self, value: str, options: Options) -> str:
        if options.fusedActivationFunction not in self._activations:
            raise TFLiteUnavailable(
                f"The network has the activation {options.fusedActivationFunction}, which this export cannot "
                "write as ONNX; export the format tflite or savedmodel"
            )
        return self._activations[options.fusedActivationFunction](value)

    def _padding(self, options: Options) -> str:
        return "SAME_UPPER" if options.padding == self._schema.Padding.SAME else "VALID"

    def _cast(self, operator: Operator) -> str:
        return self._graph.add("Cast", self._value(operator.inputs[0]), to=1)  # float32

    def _elementwise(self, operator: Operator) -> str:
        values = map(self._value, operator.inputs)
        made = self._graph.add(ELEMENTWISE[self._kind(operator)], *values)
        return self._activate(made, operator.builtinOptions)

    def _conv(self, operator: Operator) -> str:
        kernel = self._array(operator.inputs[1])  # (outputs, rows, columns, inputs)
        return self._convolve(operator, kernel.transpose(0, 3, 1, 2), group=1)

    def _depthwise(self, operator: Operator) -> str:
        kernel = self._array(operator.inputs[1])  # (1, rows, columns, channels * multiplier)
        group = kernel.shape[3] // operator.builtinOptions.depthMultiplier
        return self._convolve(operator, kernel.transpose(3, 0, 1, 2), group=group)

    def _convolve(self, operator: Operator, kernel: NDArray[np.float32], *, group: int) -> str:
        options = operator.builtinOptions
        made = self._graph.add(
            "Conv",
            self._value(operator.inputs[0]),
            self._graph.constant(kernel),
            self._graph.constant(self._array(operator.inputs[2])),
            strides=[options.strideH, options.strideW],
            dilations=[options.dilationHFactor, options.dilationWFactor],
            auto_pad=self._padding(options),
            group=group,
        )
        return self._activate(made, options)

    def _pool(self, operator: Operator) -> str:
        options = operator.builtinOptions
        made = self._graph.add(
            POOLS[self._kind(operator)],
            self._value(operator.inputs[0]),
            kernel_shape=[options.filterHeight, options.filterWidth],
            strides=[options.strideH, options.strideW],
            auto_pad=self._padding(options),
        )
        return self._activate(made, options)

    def _concat(self, operator: Operator) -> str:
        made = self._graph.add("Concat", *map(self._value, operator.inputs), axis=1)
        return self._activate(made, operator.builtinOptions)

    def _mean(self, operator: Operator) -> str:
        """Average over rows and columns, the only mean that a backbone has."""
        axes = sorted(self._array(operator.inputs[1]).ravel().tolist())
        if axes != [1, 2] or operator.builtinOptions.keepDims:
            raise TFLiteUnavailable(f"The network has a mean over the axes {axes}; [1, 2] was expected")
        axes_of_onnx = self._graph.constant(np.array([2, 3]))
        return self._graph.add("ReduceMean", self._value(operator.inputs[0]), axes_of_onnx, keepdims=0)
