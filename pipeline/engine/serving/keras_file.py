"""A `.keras` file, loaded in Keras's safe mode: a configuration that names other people's code is refused."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.engine.serving.instances import PredictionFailed
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.model import LoadedModel
from pipeline.engine.serving.saved_model import reason
from pipeline.engine.serving.tensors import Array, InputSpec
from pipeline.types import JsonObject, JsonValue

log = logging.getLogger(__name__)

SIGNATURE = "serving_default"
# Layers that are programs or load them: from bytes of Python, or from another file.
PROGRAMS = frozenset("Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer __lambda__".split())
MAX_CONFIG_BYTES = 50_000_000


class RefusedLayer(Exception):
    """A model that may not be served; the message names the layer."""


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
            f"Keras {keras.__version__} cannot read a file of Keras {_keras_version(path)}: {text[:300]}. "
            "Export a SavedModel with the Keras that made it"
        ) from error
    if not getattr(model, "inputs", None):
        raise ValueError("the Keras model does not know its inputs; call it once before it is saved")
    return LoadedModel({SIGNATURE: KerasSignature(model)}, limits)


def check_layers(path: Path) -> None:
    """Check the configuration of a model before Keras reads it.

    Raises:
        RefusedLayer: naming the first layer that is refused.
    """
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
            raise RefusedLayer(f"its config.json has more than {MAX_CONFIG_BYTES} bytes")
        config = json.loads(archive.read("config.json"))
    for item in _objects(config):
        _check_object(item)


def _keras_version(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return str(json.loads(archive.read("metadata.json")).get("keras_version"))


def _objects(value: JsonValue) -> Iterator[JsonObject]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _check_object(item: JsonObject) -> None:
    name, module = item.get("class_name"), item.get("module")
    if name in PROGRAMS:
        raise RefusedLayer(f"{name} runs a program of its own; replace it by layers or operations of Keras")
    if name is not None and module is not None and str(module).partition(".")[0] != "keras":
        raise RefusedLayer(f"{name} is of {module}, which this engine does not have; export a SavedModel")
    if name is not None and item.get("registered_name") not in (None, name, "Functional", "Sequential"):
        raise RefusedLayer(
            f"{item['registered_name']} is a custom class, which this engine lacks; export a SavedModel"
        )
    if isinstance(item.get("vocabulary"), str):
        raise RefusedLayer(f"its vocabulary is the file {item['vocabulary']!r}; save the words themselves")


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
