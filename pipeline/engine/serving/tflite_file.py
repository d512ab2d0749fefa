"""A `.tflite` file of other people's, run by LiteRT. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
from ai_edge_litert.interpreter import Interpreter, SignatureRunner

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel, Signature
from pipeline.engine.serving.tensors import STRING, Array, InputSpec

DEFAULT = "serving_default"


class TensorDetails(TypedDict):
    """What LiteRT says of a tensor."""

    name: str
    index: int
    shape: Array
    shape_signature: Array
    dtype: type[np.generic]


def load_tflite_file(path: Path, limits: WorkerLimits) -> LoadedModel:
    """Load a `.tflite` file; without signatures its tensors are those of `serving_default`.

    Raises:
        ValueError: if LiteRT cannot read it, or lacks an operation of it.
        RuntimeError: likewise, as LiteRT spells it.
    """
    interpreter = Interpreter(model_path=str(path), num_threads=limits.threads or None)
    interpreter.allocate_tensors()  # what it lacks is found now
    signatures: dict[str, Signature] = {
        name: RunnerSignature(interpreter.get_signature_runner(name))
        for name in interpreter.get_signature_list()
    }
    return LoadedModel(signatures or {DEFAULT: TensorsSignature(interpreter)}, limits)


class RunnerSignature:
    """One signature of the file.

    Args:
        runner: Runs it.
    """

    def __init__(self, runner: SignatureRunner) -> None:
        self._runner = runner
        self.inputs = [_spec(name, details) for name, details in sorted(runner.get_input_details().items())]

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their aliases."""
        try:
            outputs: Mapping[str, Array] = self._runner(**arrays)
        except (RuntimeError, ValueError) as error:
            raise PredictionFailed(_reason(error)) from error
        return outputs


class TensorsSignature:
    """The inputs and outputs of a file without signatures, by the names of their tensors.

    Args:
        interpreter: Runs the file.
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._indices = {each["name"]: each["index"] for each in interpreter.get_input_details()}
        self.inputs = [_spec(each["name"], each) for each in interpreter.get_input_details()]

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by the names of their tensors."""
        interpreter = self._interpreter
        try:
            for name, array in arrays.items():
                interpreter.resize_tensor_input(self._indices[name], array.shape)
            interpreter.allocate_tensors()
            for name, array in arrays.items():
                interpreter.set_tensor(self._indices[name], array)
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise PredictionFailed(_reason(error)) from error
        details = interpreter.get_output_details()
        return {each["name"]: interpreter.get_tensor(each["index"]) for each in details}


def _spec(name: str, details: TensorDetails) -> InputSpec:
    sizes = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    dtype = np.dtype(details["dtype"])
    return InputSpec(
        name=name,
        dtype=STRING if dtype.kind in "OS" else dtype.name,
        shape=tuple(None if size < 0 else int(size) for size in sizes),
    )


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the place in LiteRT's sources."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.rpartition(".cc:")[2][:300] if ".cc:" in text else text[:300]
