"""A `.keras` file, loaded in Keras's safe mode: a configuration that names other people's code is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel
from pipeline.engine.serving.saved_model import reason
from pipeline.engine.serving.tensors import Array, InputSpec
from pipeline.keras_archive import check_layers, keras_version

log = logging.getLogger(__name__)

SIGNATURE = "serving_default"


def load_keras_file(path: Path, limits: WorkerLimits) -> LoadedModel:
    """Check and load a `.keras` file.

    Raises:
        RefusedLayer: if it has layers that are programs, or that Keras does not have.
        ValueError: if its inputs are not known, or it cannot be read.
    """
    check_layers(path)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        log.exception("Keras cannot read the file.")  # its own text repeats the whole configuration
        text = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"Keras {keras.__version__} cannot read a file of Keras {keras_version(path)}: {text[:300]}. "
            "Export a SavedModel with the Keras that made it"
        ) from error
    if not getattr(model, "inputs", None):
        raise ValueError("the Keras model does not know its inputs; call it once before it is saved")
    return LoadedModel({SIGNATURE: KerasSignature(model)}, limits)


class KerasSignature:
    """What a Keras model answers.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._names = list(model.output_names)
        self.inputs = [
            InputSpec(name=tensor.name, dtype=str(tensor.dtype), shape=tuple(tensor.shape))
            for tensor in model.inputs
        ]

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their names."""
        tensors = [tf.constant(arrays[spec.name], spec.dtype) for spec in self.inputs]
        try:
            outputs = self._model.predict_on_batch(keras.tree.pack_sequence_as(self._model.input, tensors))
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise PredictionFailed(reason(error)) from error
        if isinstance(outputs, dict):
            return {name: np.asarray(value) for name, value in outputs.items()}
        values = keras.tree.flatten(outputs)
        return {name: np.asarray(value) for name, value in zip(self._names, values, strict=True)}
