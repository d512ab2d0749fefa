"""One TFLite file of a trunk and a head: pixels in, class probabilities out; made without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.tflite.head import LogisticHead, TrainedHead

if TYPE_CHECKING:
    from numpy.typing import NDArray

Graph: TypeAlias = "Any"  # a `SubGraphT` of ai_edge_litert's generated schema, which has no types
IDENTIFIER = b"TFL3"
OUTPUT = "probabilities"
OPERATOR_VERSION = 1  # of float operations, in TFLite's registry


def build_one_file(network: bytes, head: TrainedHead) -> bytes:
    """Return a TFLite flat buffer that runs a network and a head.

    Args:
        network: The flat buffer of the trunk, whose output of rank 2 is the pooled features.
        head: The trained layers.

    Returns:
        A model of one input `pixels`, (batch, height, width, 3) uint8, and one output, (batch, classes)
        float32 probabilities.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(network, 0))
    [graph] = model.subgraphs
    builder = _Builder(schema, model, graph)
    [pooled] = [index for index in graph.outputs if len(graph.tensors[index].shape) == 2]
    if isinstance(head, LogisticHead):
        entry = builder.unit_rows(pooled, len(head.output_kernel))
    else:
        entry = builder.dense(pooled, head.hidden_kernel, head.hidden_bias, name="hidden", relu=True)
    logits = builder.dense(entry, head.output_kernel, head.output_bias, name="logits", relu=False)
    graph.outputs = [builder.softmax(logits, len(head.output_bias))]
    packer = flatbuffers.Builder(len(network) + sum(array.nbytes for array in head.arrays().values()))
    packer.Finish(model.Pack(packer), file_identifier=IDENTIFIER)
    return bytes(packer.Output())


class _Builder:
    """Appends operations to a graph.

    Args:
        schema: The generated schema.
        model: The model that is changed.
        graph: Its graph.
    """

    def __init__(self, schema: Any, model: Any, graph: Graph) -> None:
        self._schema = schema
        self._model = model
        self._graph = graph

    def dense(
        self,
        source: int,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        name: str,
        relu: bool,
    ) -> int:
        """Append `source @ kernel + bias`, with ReLU if asked for; return the tensor."""
        options = self._schema.FullyConnectedOptionsT()
        activation = self._schema.ActivationFunctionType
        options.fusedActivationFunction = activation.RELU if relu else activation.NONE
        weights = self._constant(kernel.T, f"{name}/kernel")  # TFLite has (outputs, inputs)
        biases = self._constant(bias, f"{name}/bias")
        output = self._tensor(len(bias), name)
        self._append("FULLY_CONNECTED", [source, weights, biases], output, "FullyConnectedOptions", options)
        return output

    def unit_rows(self, source: int, width: int) -> int:
        """Append the scaling of each row to length one; return the tensor."""
        output = self._tensor(width, "units")
        self._append("L2_NORMALIZATION", [source], output, "L2NormOptions", self._schema.L2NormOptionsT())
        return output

    def softmax(self, source: int, classes: int) -> int:
        """Append a softmax; return the tensor."""
        options = self._schema.SoftmaxOptionsT()
        options.beta = 1.0
        output = self._tensor(classes, OUTPUT)
        self._append("SOFTMAX", [source], output, "SoftmaxOptions", options)
        return output

    def _append(self, code: str, inputs: list[int], output: int, kind: str, options: Any) -> None:
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(self._schema.BuiltinOperator, code))
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        self._graph.operators.append(operator)

    def _code(self, builtin: int) -> int:
        for index, code in enumerate(self._model.operatorCodes):
            if code.builtinCode == builtin:
                return index
        code = self._schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = OPERATOR_VERSION
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _constant(self, array: NDArray[np.float32], name: str) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return self._add(name, list(array.shape), len(self._model.buffers) - 1)

    def _tensor(self, width: int, name: str) -> int:
        """Append a tensor of any number of rows."""
        index = self._add(name, [1, width], 0)
        self._graph.tensors[index].shapeSignature = [-1, width]
        return index

    def _add(self, name: str, shape: list[int], buffer: int) -> int:
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name.encode(), shape, buffer
        tensor.type = self._schema.TensorType.FLOAT32
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1
