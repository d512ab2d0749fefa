"""A SavedModel and its signatures, run as they are."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipeline.engine.serving.images import bad_images_error, find_bad_images
from pipeline.engine.serving.instances import PredictionFailed, columns_of, decode_b64, rows_of
from pipeline.engine.serving.limits import WorkerLimits

log = logging.getLogger(__name__)

PICTURES = "inputs"  # the input of our own signatures that holds encoded pictures
WARM_UP_PIXELS = 64


class LoadedModel:
    """One SavedModel in memory.

    Args:
        directory: Where `saved_model.pb` is. With `graft/labels.json` beside it the model is one of ours, and
            the pictures sent to it are judged on the host first; any other model runs untouched.
        limits: Of its pictures.
    """

    def __init__(self, directory: Path, limits: WorkerLimits) -> None:
        started = time.perf_counter()
        self._model = tf.saved_model.load(str(directory))
        self._signatures = dict(self._model.signatures)
        self._limits = limits
        self._is_ours = (directory / "graft" / "labels.json").is_file()
        if not self._signatures:
            raise ValueError("the SavedModel has no signature")
        log.info("Loaded %s in %.2f s.", sorted(self._signatures), time.perf_counter() - started)

    def _signature(self, name: str) -> tuple[Any, dict[str, Any]]:
        if name not in self._signatures:
            raise PredictionFailed(
                f"the model has no signature {name!r}; it has {', '.join(sorted(self._signatures))}."
            )
        function = self._signatures[name]
        return function, function.structured_input_signature[1]

    def warm_up(self) -> None:
        """Run each signature once, so that the first client does not pay for tracing and kernels."""
        started = time.perf_counter()
        for name in self._signatures:
            function, specs = self._signature(name)
            inputs = {alias: self._example(alias, spec) for alias, spec in specs.items()}
            if any(value is None for value in inputs.values()):
                continue
            try:
                function(**inputs)
            except tf.errors.OpError as error:
                if self._is_ours:
                    raise
                log.info("Signature %s does not take an invented example: %s", name, error.message)
        log.info("Warmed up in %.2f s.", time.perf_counter() - started)

    def _example(self, alias: str, spec: Any) -> Any:
        if spec.dtype != tf.string:
            if spec.shape.rank is None:
                return None
            return tf.zeros([size or 1 for size in spec.shape.as_list()], spec.dtype)
        if not self._is_ours:
            return None
        picture = tf.io.encode_jpeg(tf.zeros([WARM_UP_PIXELS, WARM_UP_PIXELS, 3], tf.uint8))
        return tf.reshape(picture if alias == PICTURES else tf.constant("warm"), [1])

    def predict(self, instances: Sequence[Any], signature_name: str) -> list[dict[str, Any]]:
        """Return one prediction per instance, in order.

        Raises:
            PredictionFailed: if any instance fails; then nothing is predicted.
        """
        function, specs = self._signature(signature_name)
        columns = columns_of(decode_b64(list(instances)), list(specs))
        if not instances:
            return []
        problems = self._bad_pictures(columns, specs)
        if problems:
            raise bad_images_error(problems)
        return self._run(function, specs, columns)

    def _bad_pictures(self, columns: dict[str, list[Any]], specs: dict[str, Any]) -> dict[int, str]:
        if not self._is_ours or PICTURES not in specs or specs[PICTURES].dtype != tf.string:
            return {}
        return find_bad_images(columns[PICTURES], self._limits)

    def _run(
        self, function: Any, specs: dict[str, Any], columns: dict[str, list[Any]]
    ) -> list[dict[str, Any]]:
        try:
            inputs = {alias: tf.constant(column, specs[alias].dtype) for alias, column in columns.items()}
        except (TypeError, ValueError, UnicodeError, tf.errors.OpError) as error:
            raise PredictionFailed(f"Error processing input: {error}") from error
        for alias, tensor in inputs.items():  # TensorFlow does not look, and a kernel may end the process
            if not specs[alias].shape.is_compatible_with(tensor.shape):
                raise PredictionFailed(
                    f"Error during model execution: {alias} expects the shape {specs[alias].shape}. "
                    f"Received: {tensor.shape}"
                )
        try:
            outputs = function(**inputs)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise PredictionFailed(f"Error during model execution: {error}") from error
        plain = {alias: tensor.numpy() for alias, tensor in outputs.items()}
        count = len(next(iter(columns.values())))
        return rows_of({alias: value.tolist() if value.ndim else [] for alias, value in plain.items()}, count)

    def predict_lines(
        self, lines: Sequence[bytes], signature_name: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the predictions of the lines that can be predicted, and what is wrong with each other.

        Raises:
            PredictionFailed: if there is no such signature.
        """
        self._signature(signature_name)
        errors: list[dict[str, Any]] = []
        good: list[Any] = []
        for number, line in enumerate(lines):
            try:
                instance = json.loads(line)
                self._check(instance, signature_name)
                good.append((number, instance))
            except (ValueError, RecursionError) as error:
                errors.append({"line": number, "error": f"Invalid JSON: {error}"})
            except PredictionFailed as error:
                errors.append({"line": number, "error": error.message})
        return self._predict_good(good, signature_name, errors), errors

    def _check(self, instance: Any, signature_name: str) -> None:
        _, specs = self._signature(signature_name)
        columns = columns_of(decode_b64([instance]), list(specs))
        for problem in self._bad_pictures(columns, specs).values():
            raise PredictionFailed(f"Error processing input: {problem}")

    def _predict_good(
        self, good: list[tuple[int, Any]], signature_name: str, errors: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        function, specs = self._signature(signature_name)

        def run(instances: list[Any]) -> list[dict[str, Any]]:
            return self._run(function, specs, columns_of(decode_b64(instances), list(specs)))

        try:
            return run([instance for _, instance in good]) if good else []
        except PredictionFailed:
            log.info("A batch failed; its lines are run one by one.")
        results = []
        for number, instance in good:
            try:
                results += run([instance])
            except PredictionFailed as error:
                errors.append({"line": number, "error": error.message})
        return results
