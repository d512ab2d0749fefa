"""An `.onnx` file, run by ONNX Runtime, which is an extra of this project. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel
from pipeline.engine.serving.tensors import STRING, Array, InputSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

SIGNATURE = "serving_default"
DTYPES = {"float": "float32", "double": "float64", "string": STRING}  # where ONNX has names of its own
MISSING = "ONNX models need ONNX Runtime: install it where the engine runs, `pip install 'graft[onnx]'`"


def load_onnx_file(path: Path, limits: WorkerLimits) -> LoadedModel:
    """Load an `.onnx` file.

    Raises:
        ValueError: if ONNX Runtime is not installed, or cannot load the file.
    """
    try:
        from onnxruntime import InferenceSession, SessionOptions
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf
    except ImportError as error:
        raise ValueError(MISSING) from error
    options = SessionOptions()
    options.intra_op_num_threads = limits.threads
    options.log_severity_level = 3
    try:
        session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NotImplementedError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return LoadedModel({SIGNATURE: OnnxSignature(session)}, limits)


class OnnxSignature:
    """What an ONNX model answers.

    Args:
        session: Runs it.
    """

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._outputs = [node.name for node in session.get_outputs()]
        self.inputs = [_spec(node) for node in session.get_inputs()]

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their names."""
        try:
            values = self._session.run(self._outputs, dict(arrays))
        except Exception as error:  # ONNX Runtime's own classes have no common one
            raise PredictionFailed(str(error).splitlines()[0][:300]) from error
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}


def _spec(node: NodeArg) -> InputSpec:
    element = node.type.removeprefix("tensor(").removesuffix(
        ")"
    )  # also sequences and maps, which JSON has not
    shape = node.shape
    return InputSpec(
        name=node.name,
        dtype=DTYPES.get(element, element),
        shape=None if shape is None else tuple(size if isinstance(size, int) else None for size in shape),
    )
