"""A SavedModel and its signatures, run by TensorFlow as they are."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from pipeline.engine.serving.images import bad_images_error, find_bad_images
from pipeline.engine.serving.instances import (
    Columns,
    PredictionFailed,
    Row,
    columns_of,
    decode_b64,
    rows_of,
)
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import LineError
from pipeline.tflite.manifest import is_graft_model
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

IMAGES = "inputs"  # the input of our own signatures that holds encoded images
WARM_UP_PIXELS = 64


class Signature:
    """One signature of a loaded model.

    Args:
        function: Its concrete function.
    """

    def __init__(self, function: tf.types.experimental.ConcreteFunction) -> None:
        self._function = function
        self.specs: Mapping[str, tf.TensorSpec] = function.structured_input_signature[1]

    @property
    def takes_images(self) -> bool:
        """Whether it has the input in which our own models take encoded images."""
        return IMAGES in self.specs and bool(self.specs[IMAGES].dtype == tf.string)

    def columns(self, instances: Sequence[JsonValue]) -> Columns:
        """Return the values of each input."""
        return columns_of([decode_b64(instance) for instance in instances], list(self.specs))

    def example(self, *, is_ours: bool) -> dict[str, tf.Tensor] | None:
        """Return inputs to warm up with, or None if none can be made up."""
        inputs = {alias: _example(alias, spec, is_ours=is_ours) for alias, spec in self.specs.items()}
        return None if any(value is None for value in inputs.values()) else inputs

    def call(self, inputs: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Run the function."""
        outputs: Mapping[str, tf.Tensor] = self._function(**inputs)
        return outputs

    def run(self, columns: Columns) -> list[Row]:
        """Return one prediction per instance.

        Raises:
            PredictionFailed: if TensorFlow refuses the inputs, or fails.
        """
        try:
            inputs = {
                alias: tf.constant(column, self.specs[alias].dtype) for alias, column in columns.items()
            }
        except (TypeError, ValueError, UnicodeError, tf.errors.OpError) as error:
            raise PredictionFailed(f"Error processing input: {error}") from error
        for alias, tensor in inputs.items():  # TensorFlow does not check, and a kernel may end the process
            if not self.specs[alias].shape.is_compatible_with(tensor.shape):
                raise PredictionFailed(
                    f"Error during model execution: {alias} expects the shape {self.specs[alias].shape}. "
                    f"Received: {tensor.shape}"
                )
        try:
            outputs = self.call(inputs)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise PredictionFailed(f"Error during model execution: {error}") from error
        arrays = {alias: tensor.numpy() for alias, tensor in outputs.items()}
        count = len(next(iter(columns.values())))
        return rows_of(
            {alias: value.tolist() if value.ndim else [] for alias, value in arrays.items()}, count
        )


def _example(alias: str, spec: tf.TensorSpec, *, is_ours: bool) -> tf.Tensor | None:
    if spec.dtype != tf.string:
        if spec.shape.rank is None:
            return None
        return tf.zeros([size or 1 for size in spec.shape.as_list()], spec.dtype)
    if not is_ours:
        return None
    image = tf.io.encode_jpeg(tf.zeros([WARM_UP_PIXELS, WARM_UP_PIXELS, 3], tf.uint8))
    return tf.reshape(image if alias == IMAGES else tf.constant("warm"), [1])


class LoadedModel:
    """One SavedModel in memory.

    Args:
        directory: The directory of `saved_model.pb`. With `graft/labels.json` in it the model is one of ours,
            and the images sent to it are checked on the host first; any other model runs untouched.
        limits: The limits of its images.
    """

    def __init__(self, directory: Path, limits: WorkerLimits) -> None:
        started = time.perf_counter()
        self._model = tf.saved_model.load(str(directory))  # keeps the variables of the signatures alive
        self._signatures = {name: Signature(function) for name, function in self._model.signatures.items()}
        self._limits = limits
        self._is_ours = is_graft_model(directory)
        if not self._signatures:
            raise ValueError("the SavedModel has no signature")
        log.info("Loaded %s in %.2f s.", sorted(self._signatures), time.perf_counter() - started)

    def _signature(self, name: str) -> Signature:
        if name not in self._signatures:
            raise PredictionFailed(
                f"the model has no signature {name!r}; it has {', '.join(sorted(self._signatures))}."
            )
        return self._signatures[name]

    def warm_up(self) -> None:
        """Run each signature once, so that the first client does not pay for tracing and kernels."""
        started = time.perf_counter()
        for name, signature in self._signatures.items():
            inputs = signature.example(is_ours=self._is_ours)
            if inputs is None:
                continue
            try:
                signature.call(inputs)
            except tf.errors.OpError as error:
                if self._is_ours:
                    raise
                log.info("Signature %s does not take a made-up example: %s", name, error.message)
        log.info("Warmed up in %.2f s.", time.perf_counter() - started)

    def predict(self, instances: Sequence[JsonValue], signature_name: str) -> list[Row]:
        """Return one prediction per instance, in order.

        Raises:
            PredictionFailed: if any instance fails; then nothing is predicted.
        """
        signature = self._signature(signature_name)
        columns = signature.columns(instances)
        if not instances:
            return []
        if problems := self._bad_images(signature, columns):
            raise bad_images_error(problems)
        return signature.run(columns)

    def _bad_images(self, signature: Signature, columns: Columns) -> dict[int, str]:
        if not self._is_ours or not signature.takes_images:
            return {}
        return find_bad_images(columns[IMAGES], self._limits)

    def predict_lines(self, lines: Sequence[bytes], signature_name: str) -> tuple[list[Row], list[LineError]]:
        """Return the predictions of the lines that can be predicted, and the errors of the others.

        Raises:
            PredictionFailed: if there is no such signature.
        """
        signature = self._signature(signature_name)
        errors: list[LineError] = []
        instances: dict[int, JsonValue] = {}
        for number, line in enumerate(lines):
            try:
                instance = json.loads(line.decode("utf-8-sig"))
                self._check(signature, instance)
                instances[number] = instance
            except (ValueError, RecursionError) as error:
                errors.append(LineError(line=number, error=f"Invalid JSON: {error}"))
            except PredictionFailed as error:
                errors.append(LineError(line=number, error=error.message))
        return self._predict_instances(signature, instances, errors), errors

    def _check(self, signature: Signature, instance: JsonValue) -> None:
        for problem in self._bad_images(signature, signature.columns([instance])).values():
            raise PredictionFailed(f"Error processing input: {problem}")

    def _predict_instances(
        self, signature: Signature, instances: Mapping[int, JsonValue], errors: list[LineError]
    ) -> list[Row]:
        try:
            return signature.run(signature.columns(list(instances.values()))) if instances else []
        except PredictionFailed:
            log.info("A batch failed; its lines are run one by one.")
        rows: list[Row] = []
        for number, instance in instances.items():
            try:
                rows += signature.run(signature.columns([instance]))
            except PredictionFailed as error:
                errors.append(LineError(line=number, error=error.message))
        return rows
