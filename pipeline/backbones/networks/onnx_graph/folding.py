"""Operations on constants, computed by ONNX Runtime when the network is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import NetworkRefused

if TYPE_CHECKING:
    import onnx
    import onnxruntime
    from numpy.typing import NDArray


def fold_node(
    model: onnx.ModelProto, proto: onnx.NodeProto, inputs: Sequence[NDArray[Any] | None]
) -> list[NDArray[Any]]:
    """Return what an operation gives for constants.

    Args:
        model: The file, for its versions.
        proto: The operation.
        inputs: Its inputs; None where one is left out.

    Raises:
        NetworkRefused: if ONNX Runtime cannot compute it.
    """
    import onnx
    import onnxruntime

    arguments = {
        name: np.asarray(array)
        for name, array in zip(proto.input, inputs, strict=True)
        if name and array is not None
    }
    infos = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arguments.items()
    ]
    names = [name for name in proto.output if name]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph([proto], "constant", infos, outputs)
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    try:
        session = onnxruntime.InferenceSession(
            single.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
        )
        return [np.asarray(array) for array in session.run(names, arguments)]
    except Exception as error:  # ONNX Runtime's own classes have no common one
        raise NetworkRefused(f"ONNX Runtime cannot compute it: {str(error)[:200]}") from error


def quiet_options() -> onnxruntime.SessionOptions:
    """Return settings of a session of one thread that only logs errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options
