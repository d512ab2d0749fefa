"""A frozen network of the user's own: a TensorFlow graph, and its larger constants as arrays of their own.

It is staged as one NPZ, so that a job needs neither Keras nor the file that the network came in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from pipeline.backbones.networks.folded import MakeConstant, MappedNetwork
from pipeline.pixels.spec import PixelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAPH, TENSORS = "graph", "tensors"  # the arrays of the NPZ that are no constants
MIN_BYTES = 1024  # smaller constants stay in the graph, where converters look for axes and shapes
_PASSED_ON = {"Identity", "Reshape", "Squeeze", "StopGradient"}


def freeze_network(function: tf.types.experimental.ConcreteFunction) -> dict[str, NDArray[Any]]:
    """Return the arrays of a network's NPZ.

    Args:
        function: From uint8 pixels to pooled features.
    """
    frozen = convert_variables_to_constants_v2(function)
    graph: GraphDef = frozen.graph.as_graph_def()
    arrays = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in graph.node
        if node.op == "Const" and node.attr["value"].tensor.ByteSize() >= MIN_BYTES
    }
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "fiu"}
    kept = [node for node in graph.node if node.name not in arrays]
    for node in (*kept, *(node for function in graph.library.function for node in function.node_def)):
        node.attr.pop("_gradient_op_type", None)  # of functions of the process that traced it
    del graph.node[:]
    graph.node.extend(kept)
    pooled = frozen.outputs[0]
    feature_map = find_feature_map(pooled)
    tensors = {
        "pixels": frozen.inputs[0].name,
        "pooled": pooled.name,
        "map": "" if feature_map is None else feature_map.name,
        "constants": list(arrays),
    }
    numbered = {f"constant_{number}": array for number, array in enumerate(arrays.values())}
    return {
        GRAPH: np.frombuffer(graph.SerializeToString(deterministic=True), np.uint8),
        TENSORS: np.frombuffer(json.dumps(tensors).encode(), np.uint8),
        **numbered,
    }


def has_feature_map(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Return True if the features of a frozen network are the mean of a feature map."""
    return bool(json.loads(arrays[TENSORS].tobytes())["map"])


def find_feature_map(pooled: tf.Tensor) -> tf.Tensor | None:
    """Return the tensor whose mean over rows and columns the features are; None if they are no such mean."""
    operation = pooled.op
    while operation.type in _PASSED_ON:
        operation = operation.inputs[0].op
    if operation.type != "Mean":
        return None
    source, axes = operation.inputs[0], tf.get_static_value(operation.inputs[1])
    if source.shape.rank != 4 or axes is None or source.shape[-1] != pooled.shape[-1]:
        return None
    return source if sorted(int(axis) % 4 for axis in np.atleast_1d(axes)) == [1, 2] else None


def build_frozen_network(
    arrays: Mapping[str, NDArray[Any]], spec: PixelSpec, constant: MakeConstant = tf.constant
) -> MappedNetwork:
    """Return a `tf.function` from uint8 pixels to pooled features and the feature map.

    A network whose features are no mean over places has a map of one place: the features themselves.

    Args:
        arrays: Those of `freeze_network`.
        spec: The pixels it is fed.
        constant: Makes a constant of an array.

    Shapes:
        pixels: (batch, height, width, 3) uint8.
        returns: (batch, feature_width) and (batch, rows, columns, feature_width) float32.
    """
    graph, tensors = GraphDef.FromString(arrays[GRAPH].tobytes()), json.loads(arrays[TENSORS].tobytes())

    def network(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = {
            f"{name}:0": constant(arrays[f"constant_{number}"])
            for number, name in enumerate(tensors["constants"])
        }
        wanted = [tensors["pooled"], *([tensors["map"]] if tensors["map"] else [])]
        outputs = tf.graph_util.import_graph_def(
            graph, input_map={**inputs, tensors["pixels"]: pixels}, return_elements=wanted, name=""
        )
        pooled = outputs[0]
        return pooled, outputs[1] if tensors["map"] else pooled[:, tf.newaxis, tf.newaxis, :]

    pixels = tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)
    traced: MappedNetwork = tf.function(network, input_signature=[pixels], autograph=False)
    return traced
