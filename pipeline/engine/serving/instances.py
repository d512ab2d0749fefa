"""From the instances of a request to the inputs of a signature, and from outputs to JSON; no TensorFlow.

The rules are those of ML Engine v1: an object whose only key is `b64` becomes bytes wherever it stands,
plain strings pass untouched, a one-input model takes bare values, and only string outputs whose alias ends in
`_bytes` are sent back as `{"b64": ...}`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.errors import InvalidArgument, PipelineError
from pipeline.types import JsonValue

TensorValue: TypeAlias = (
    "JsonValue | bytes | Sequence[TensorValue] | Mapping[str, TensorValue]"  # JSON in which `b64` is bytes
)
Columns: TypeAlias = "dict[str, list[TensorValue]]"  # the values of each input or output, one per instance
Row: TypeAlias = dict[str, JsonValue]  # the prediction of one instance


class PredictionFailed(PipelineError):
    """Nothing of the request was predicted: the response is HTTP 200 with `{"error": ...}`."""


@dataclass(frozen=True, slots=True)
class PredictBody:
    """The body of `:predict`."""

    instances: list[JsonValue]
    signature_name: str


def read_request(body: bytes, *, max_instances: int = 10_000) -> PredictBody:
    """Read the body of `:predict`.

    Raises:
        InvalidArgument: if it is no JSON object with a list `instances`, or with too many.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"))  # bytes would be accepted as UTF-16, too
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("instances"), list):
        raise InvalidArgument(
            "The request must be a JSON object with a list of instances.", field="http_body.instances"
        )
    if len(value["instances"]) > max_instances:
        raise InvalidArgument(
            f"At most {max_instances} instances are predicted at once. Received: {len(value['instances'])}",
            field="http_body.instances",
        )
    name = value.get("signature_name", value.get("signatureName")) or "serving_default"
    if not isinstance(name, str):
        raise InvalidArgument(f"Expected a string. Received: {name!r}", field="http_body.signature_name")
    return PredictBody(value["instances"], name)


def decode_b64(value: JsonValue) -> TensorValue:
    """Turn every `{"b64": text}` in a JSON value into bytes; the standard and the url-safe alphabet are read.

    Raises:
        PredictionFailed: if the text is not base64.
    """
    if isinstance(value, list):
        return [decode_b64(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"b64"}:
        return base64_bytes(value["b64"])
    return {key: decode_b64(item) for key, item in value.items()}


def base64_bytes(text: TensorValue) -> bytes:
    """Decode base64 in either alphabet, padded or not, with line breaks or without.

    Raises:
        PredictionFailed: if it is something else.
    """
    if not isinstance(text, str):
        raise PredictionFailed(f"Unable to base64 decode: expected a string, got {text!r}.")
    packed = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PredictionFailed(f"Unable to base64 decode: {error}.") from error


def columns_of(instances: Sequence[TensorValue], aliases: Sequence[str]) -> Columns:
    """Return the values of each input, one per instance.

    Raises:
        PredictionFailed: naming what is missing or not an input.
    """
    if len(aliases) == 1:
        instances = [item if isinstance(item, dict) else {aliases[0]: item} for item in instances]
    columns: Columns = {alias: [] for alias in aliases}
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict):
            expected = f"expected an object with the inputs {sorted(aliases)}"
            raise PredictionFailed(f"Instance {index}: {expected}. Received: {str(instance)[:80]!r}")
        _check_keys(index, instance, aliases)
        for alias in aliases:
            columns[alias].append(instance[alias])
    return columns


def _check_keys(index: int, instance: Mapping[str, TensorValue], aliases: Sequence[str]) -> None:
    unknown, missing = sorted(instance.keys() - set(aliases)), sorted(set(aliases) - instance.keys())
    if len(aliases) == 1 and (unknown or missing):
        got = sorted(instance)
        raise PredictionFailed(
            f"Instance {index}: Expected tensor name: {aliases[0]}, got tensor name: {got}."
        )
    if missing:
        raise PredictionFailed(
            f"Instance {index}: Input {missing[0]} was missing in at least one input instance."
        )
    if unknown:
        raise PredictionFailed(
            f"Instance {index}: Input mismatch: {unknown} is not an input; the inputs are {sorted(aliases)}."
        )


def rows_of(outputs: Columns, count: int) -> list[Row]:
    """Return one object per instance from the columns of the outputs.

    Raises:
        PredictionFailed: if an output has not one row per instance.
    """
    for alias, column in outputs.items():
        if len(column) != count:
            raise PredictionFailed(f"Output {alias} has {len(column)} rows for {count} instances.")
    ready = {alias: [_to_json(alias, value) for value in column] for alias, column in outputs.items()}
    return [{alias: column[index] for alias, column in ready.items()} for index in range(count)]


def _to_json(alias: str, value: TensorValue) -> JsonValue:
    if isinstance(value, list):
        return [_to_json(alias, item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"  # as proto3 JSON
    if isinstance(value, bytes):
        return _bytes_to_json(alias, value)
    return value  # a tensor holds nothing else: numbers, text, booleans


def _bytes_to_json(alias: str, value: bytes) -> JsonValue:
    if alias.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise PredictionFailed(
            f"Output {alias} holds bytes that are not UTF-8; name it {alias}_bytes to have it sent as base64."
        ) from error
