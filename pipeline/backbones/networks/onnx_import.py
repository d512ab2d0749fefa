"""Makes a backbone of an `.onnx` file: the graph up to its pooled features, as operations of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf

from pipeline.backbones.networks.imported import ImportedNetwork, NetworkOptions, choose_size
from pipeline.backbones.networks.onnx_graph.folding import quiet_options
from pipeline.backbones.networks.onnx_graph.graph import OnnxGraph
from pipeline.backbones.networks.onnx_graph.reading import NetworkInput, OnnxReader
from pipeline.backbones.networks.onnx_graph.rewriting import fuse_gelu
from pipeline.backbones.networks.onnx_graph.shaping import batch_named
from pipeline.backbones.networks.onnx_graph.values import BATCH, Sizes, Value
from pipeline.backbones.networks.scaling import Scaling
from pipeline.errors import NetworkRefused
from pipeline.onnx_archive import open_onnx
from pipeline.types import Float32Features, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_LISTED = 10


def import_onnx(path: Path, options: NetworkOptions) -> ImportedNetwork:
    """Read an `.onnx` file.

    Raises:
        NetworkRefused: naming what keeps it from being a backbone, and what to change.
    """
    model = open_onnx(path)
    reader = OnnxReader(model.graph)
    source = reader.find_input()
    size = choose_size(source.size, options)
    scaling = _choose_scaling(reader, source, options)
    output = reader.find_output(options.output)
    if output not in reader.producers:
        pooled = _list_pooled(OnnxGraph(model=model, is_single=source.is_single), source, size)
        raise NetworkRefused(f"it has no tensor or operation {output!r}; {pooled}")
    reference = _open_session(model, source, output, scaling)
    fuse_gelu(model.graph)
    graph = OnnxGraph(model=model, is_single=source.is_single)
    _check_pooled(graph, source, size, output)
    return ImportedNetwork(
        function=_trace(graph, source, size, output, scaling),
        height=size[0],
        width=size[1],
        output=output,
        reference=reference,
    )


def _choose_scaling(reader: OnnxReader, source: NetworkInput, options: NetworkOptions) -> Scaling:
    if source.is_bytes and (options.scaling or options.mean):
        raise NetworkRefused("its input is uint8, so it scales its pixels itself. Remove `scaling`")
    return options.choose_scaling(reader.find_scaling(source))


def _open_session(
    model: onnx.ModelProto, source: NetworkInput, output: str, scaling: Scaling
) -> Callable[[UInt8Images], Float32Features]:
    """Return what computes the features of pictures by ONNX Runtime.

    Raises:
        NetworkRefused: if ONNX Runtime cannot load the file.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.append(onnx.ValueInfoProto(name=output))
    try:
        session = onnxruntime.InferenceSession(
            whole.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's own classes have no common one
        raise NetworkRefused(f"ONNX Runtime cannot load it: {str(error)[:300]}") from error

    def run(batch: NDArray[Any]) -> Float32Features:
        features: Float32Features = session.run([output], {source.name: batch})[0].reshape(len(batch), -1)
        return features

    def compute(pixels: UInt8Images) -> Float32Features:
        scaled = pixels if source.is_bytes else scaling.apply(pixels).numpy()
        tensor = scaled if source.channels_last else scaled.transpose(0, 3, 1, 2)
        batches = np.split(tensor, len(tensor)) if source.is_single else [tensor]
        return np.concatenate([run(np.ascontiguousarray(batch)) for batch in batches])

    return compute


def _check_pooled(graph: OnnxGraph, source: NetworkInput, size: tuple[int, int], output: str) -> None:
    """Find the sizes of all tensors that the output depends on.

    Raises:
        NetworkRefused: if an operation cannot be converted, or the output is not pooled.
    """
    sizes = _run_sizes(graph, source, size, output)
    if not _is_pooled(sizes):
        raise NetworkRefused(
            f"it has no pooled output: that of {output!r} is {batch_named(sizes)}, and features are (batch, "
            f"width). Export the network with its pooled output, or {_name_one(graph)}"
        )


def _run_sizes(graph: OnnxGraph, source: NetworkInput, size: tuple[int, int], *wanted: str) -> Sizes:
    with tf.Graph().as_default():
        pixels = tf.compat.v1.placeholder(tf.float32, (BATCH, *size, 3))
        return graph.run(source.name, _as_input(pixels, source), *wanted).sizes


def _as_input(pixels: tf.Tensor, source: NetworkInput) -> Value:
    return Value(pixels) if source.channels_last else Value(last=pixels)


def _is_pooled(sizes: Sizes) -> bool:
    return sizes[0] == BATCH and (len(sizes) == 2 or (len(sizes) == 4 and sorted(sizes)[:2] == [1, 1]))


def _list_pooled(graph: OnnxGraph, source: NetworkInput, size: tuple[int, int]) -> str:
    _run_sizes(graph, source, size, *(each.name for each in graph.model.graph.output))
    return _name_one(graph)


def _name_one(graph: OnnxGraph) -> str:
    names = [name for name, sizes in graph.sizes.items() if sizes and _is_pooled(sizes)]
    listed = ", ".join(dict.fromkeys(names[-MAX_LISTED:])) or "none is pooled"
    return f"set `output` to the name of a tensor: {listed}"


def _trace(
    graph: OnnxGraph, source: NetworkInput, size: tuple[int, int], output: str, scaling: Scaling
) -> tf.types.experimental.ConcreteFunction:
    """Return the function of uint8 pixels, for batches of any length."""

    def network(pixels: tf.Tensor) -> tf.Tensor:
        scaled = scaling.apply(pixels)
        value = _as_input(scaled, source).with_sizes(_input_sizes(source, size))
        features = graph.run(source.name, value, output)
        width = max(features.sizes[1:])
        return tf.cast(features.reshape((BATCH, width)).first(), tf.float32)

    pixels = tf.TensorSpec((None, *size, 3), tf.uint8, name="pixels")
    return tf.function(network, input_signature=[pixels], autograph=False).get_concrete_function()


def _input_sizes(source: NetworkInput, size: tuple[int, int]) -> Sizes:
    return (BATCH, *size, 3) if source.channels_last else (BATCH, 3, *size)
