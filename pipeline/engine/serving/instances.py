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


BASE64_ALPHABET = str.maketrans("-_", "+/", "\r\n")  # url-safe to standard, without line breaks


class Infinite(float):
    """An infinity that the client wrote as such: a number like 1e999 becomes one, too, and is refused."""


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
        value = parse_json(body)
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


def parse_json(data: bytes) -> JsonValue:
    """Parse JSON in UTF-8, with the numbers NaN, Infinity and -Infinity that Python's clients send.

    Raises:
        ValueError, RecursionError: if it is something else.
    """
    value: JsonValue = json.loads(data.decode("utf-8-sig"), parse_constant=Infinite)  # not UTF-16
    return value


def decode_b64(value: TensorValue) -> TensorValue:
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
        PredictionFailed: if it is something else, with spaces for instance.
    """
    if not isinstance(text, str):
        raise PredictionFailed(f"Unable to base64 decode: expected a string, got {type(text).__name__}.")
    if " " in text:  # dropped, they would leave other bytes
        raise PredictionFailed(
            "Unable to base64 decode: the text has spaces; forms and URLs turn each + into one."
        )
    packed = text.translate(BASE64_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PredictionFailed(f"Unable to base64 decode: {error}.") from error


def check_line(instance: JsonValue, aliases: Sequence[str]) -> None:
    """Check that a line of batch input is an instance, and not the body of an online prediction.

    Raises:
        PredictionFailed: saying what to write.
    """
    is_request = isinstance(instance, dict) and isinstance(instance.get("instances"), list)
    if is_request and "instances" not in aliases:
        raise PredictionFailed(
            'A line of batch input is one instance, not a request: write each of the "instances" on a line '
            "of its own, without that key."
        )


def columns_of(instances: Sequence[TensorValue], aliases: Sequence[str]) -> Columns:
    """Return the values of each input, one per instance, with each `b64` decoded.

    Raises:
        PredictionFailed: naming what is missing, not an input, or not base64.
    """
    instances = [_decoded(index, instance, aliases) for index, instance in enumerate(instances)]
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


def _decoded(index: int, instance: TensorValue, aliases: Sequence[str]) -> TensorValue:
    """Return an instance with bytes for base64."""
    if isinstance(instance, dict) and instance.keys() != {"b64"}:
        return {name: _decoded_input(index, item, name) for name, item in instance.items()}
    return _decoded_input(index, instance, aliases[0] if len(aliases) == 1 else "")


def _decoded_input(index: int, value: TensorValue, name: str) -> TensorValue:
    try:
        return decode_b64(value)
    except PredictionFailed as error:
        where = f"instance {index}, input {name}" if name else f"instance {index}"
        text = f"Error processing input: {error.message.rstrip('.')} ({where})."
        raise PredictionFailed(text) from error


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
