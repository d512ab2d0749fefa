"""A loaded model of any format: its signatures, and what they answer. No TensorFlow."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from pipeline.engine.serving.images import bad_images_error, find_bad_images
from pipeline.engine.serving.instances import (
    Columns,
    PredictionFailed,
    Row,
    check_line,
    columns_of,
    parse_json,
    rows_of,
)
from pipeline.engine.serving.limits import WorkerLimits
from pipeline.engine.serving.messages import LineError
from pipeline.engine.serving.tensors import STRING, Array, InputSpec, array_of, values_of
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

IMAGES = "inputs"  # the input of our own signatures that holds encoded images
WARM_UP_PIXELS = 64


class Signature(Protocol):
    """One signature of a model, in whatever format."""

    @property
    def inputs(self) -> Sequence[InputSpec]:
        """Its inputs."""

    def run(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the outputs by their aliases.

        Raises:
            PredictionFailed: saying why the model fails, without arrays and graphs.
        """


class LoadedModel:
    """One model in memory.

    Args:
        signatures: Its signatures by name.
        limits: The limits of its images.
        is_ours: Whether Graft made it: then the images sent to it are checked on the host first.

    Raises:
        ValueError: if it has no signature.
    """

    def __init__(
        self, signatures: Mapping[str, Signature], limits: WorkerLimits, *, is_ours: bool = False
    ) -> None:
        if not signatures:
            raise ValueError("the model has no signature; export it with one, named serving_default")
        self._signatures = signatures
        self._limits = limits
        self._is_ours = is_ours

    def _signature(self, name: str) -> Signature:
        if name not in self._signatures:
            raise PredictionFailed(
                f"the model has no signature {name!r}; it has {', '.join(sorted(self._signatures))}."
            )
        return self._signatures[name]

    def warm_up(self) -> None:
        """Run each signature once, so that the first client does not pay for what is done only once."""
        started = time.perf_counter()
        for name, signature in self._signatures.items():
            arrays = {spec.name: _example(spec, is_ours=self._is_ours) for spec in signature.inputs}
            examples = {alias: array for alias, array in arrays.items() if array is not None}
            if len(examples) < len(arrays):
                continue
            try:
                signature.run(examples)
            except PredictionFailed as error:
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
        columns = columns_of(instances, [spec.name for spec in signature.inputs])
        if not instances:
            return []
        if problems := self._bad_images(signature, columns):
            raise bad_images_error(problems)
        return _run(signature, columns, len(instances))

    def _bad_images(self, signature: Signature, columns: Columns) -> dict[int, str]:
        takes_images = any((spec.name, spec.dtype) == (IMAGES, STRING) for spec in signature.inputs)
        return find_bad_images(columns[IMAGES], self._limits) if self._is_ours and takes_images else {}

    def predict_lines(self, lines: Sequence[bytes], signature_name: str) -> tuple[list[Row], list[LineError]]:
        """Return the predictions of the lines that can be predicted, and the errors of the others.

        Raises:
            PredictionFailed: if there is no such signature.
        """
        signature = self._signature(signature_name)
        aliases = [spec.name for spec in signature.inputs]
        errors: list[LineError] = []
        instances: dict[int, JsonValue] = {}
        for number, line in enumerate(lines):
            try:
                instance = parse_json(line)
                check_line(instance, aliases)
                self._check(signature, columns_of([instance], aliases))
                instances[number] = instance
            except (ValueError, RecursionError) as error:
                errors.append(LineError(line=number, error=f"Invalid JSON: {error}"))
            except PredictionFailed as error:
                errors.append(LineError(line=number, error=error.message))
        return _run_lines(signature, instances, errors), errors

    def _check(self, signature: Signature, columns: Columns) -> None:
        for problem in self._bad_images(signature, columns).values():
            raise PredictionFailed(f"Error processing input: {problem}")


def _run_lines(
    signature: Signature, instances: Mapping[int, JsonValue], errors: list[LineError]
) -> list[Row]:
    aliases = [spec.name for spec in signature.inputs]
    try:
        columns = columns_of(list(instances.values()), aliases)
        return _run(signature, columns, len(instances)) if instances else []
    except PredictionFailed:
        log.info("A batch failed; its lines are run one by one.")
    rows: list[Row] = []
    for number, instance in instances.items():
        try:
            rows += _run(signature, columns_of([instance], aliases), 1)
        except PredictionFailed as error:
            errors.append(LineError(line=number, error=error.message))
    return rows


def _run(signature: Signature, columns: Columns, count: int) -> list[Row]:
    """Return the predictions of some instances, all at once or as many as the signature takes.

    Raises:
        PredictionFailed: naming the instance.
    """
    arrays = {spec.name: array_of(columns[spec.name], spec) for spec in signature.inputs}
    size = count
    if fixed := {spec.batch_size for spec in signature.inputs} - {None}:
        size = max(number for number in fixed if number is not None)
        if len(fixed) > 1 or size < 1 or count % size:
            raise PredictionFailed(
                f"Error processing input: the model takes {size} instances at a time. Received: {count}"
            )
    rows: list[Row] = []
    for start in range(0, count, size):
        part = {alias: array[start : start + size] for alias, array in arrays.items()}
        rows += _run_part(signature, part, range(start, start + size))
    return rows


def _run_part(signature: Signature, arrays: Mapping[str, Array], numbers: range) -> list[Row]:
    try:
        outputs = signature.run(arrays)
    except PredictionFailed as error:
        culprit = _find_culprit(signature, arrays, len(numbers))
        where = ", ".join(f"input {spec.name}" for spec in signature.inputs)
        if culprit is not None:
            where = f"instance {numbers[culprit]}, {where}"
        text = f"Error during model execution: {error.message.rstrip('.')} ({where})."
        raise PredictionFailed(text) from error
    return rows_of({alias: values_of(alias, array) for alias, array in outputs.items()}, len(numbers))


def _find_culprit(signature: Signature, arrays: Mapping[str, Array], count: int) -> int | None:
    """Return the first instance that fails without those after it, for about one more run of all."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if _fails(signature, {alias: array[low:middle] for alias, array in arrays.items()}):
            high = middle
        else:
            low = middle
    alone = {alias: array[low:high] for alias, array in arrays.items()}
    return low if count == 1 or _fails(signature, alone) else None


def _fails(signature: Signature, arrays: Mapping[str, Array]) -> bool:
    try:
        signature.run(arrays)
    except PredictionFailed:
        return True
    return False


def _example(spec: InputSpec, *, is_ours: bool) -> Array | None:
    """Return an array to warm up with, or None if none can be made up."""
    if spec.shape is None or (spec.dtype == STRING and not is_ours):
        return None
    array = np.zeros([size or 1 for size in spec.shape], spec.numpy_dtype)
    if spec.dtype == STRING:
        array[...] = _image() if spec.name == IMAGES else b"warm"
    return array


def _image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (WARM_UP_PIXELS, WARM_UP_PIXELS)).save(file, "JPEG")
    return file.getvalue()
