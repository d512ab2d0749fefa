"""How a record is read back from the JSON values that it was written as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pipeline.artifacts.formats import check_format
from pipeline.errors import RecordInvalid
from pipeline.types import JsonObject, JsonValue

T = TypeVar("T")


def build_record(record: type[T], value: JsonObject, **nested: object) -> T:
    """Return a record with these fields.

    Args:
        record: The dataclass.
        value: Its fields as JSON.
        nested: Fields that have been built already, in place of their JSON.

    Raises:
        RecordInvalid: if a field is missing or unknown.
    """
    try:
        return record(**{**value, **nested})
    except TypeError as error:
        raise RecordInvalid(f"{_name(record)} cannot be read: {error}.") from error


def strip_format(value: JsonObject, newest: int, record: type[T]) -> JsonObject:
    """Return the fields without the format number; a record without one is of an earlier release.

    Raises:
        FormatTooNew: if a newer release wrote it.
    """
    number = value.get("format", 0)
    check_format(_name(record), number if isinstance(number, int) else newest + 1, newest)
    return {name: field for name, field in value.items() if name != "format"}


def as_object(value: JsonValue) -> JsonObject:
    """Return a nested JSON object; an empty one for null.

    Raises:
        RecordInvalid: if it is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RecordInvalid(f"a record holds {value!r:.100} where a JSON object was expected.")
    return value


def _name(record: type[T]) -> str:
    return record.__name__
