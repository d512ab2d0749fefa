"""Fields of v1's JSON: names, bucket addresses, durations, and the base classes of its objects.

Bodies come in lowerCamelCase or snake_case. `null` is the same as absent, as in all of proto3's JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel, to_snake

from pipeline.errors import InvalidArgument, Unimplemented
from pipeline.types import JsonValue

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}")  # v1's rule for jobs, models and versions
NAME_RULE = (
    "A name should start with a letter and contain only letters, numbers and underscores, 128 at most."
)
MIN_WAIT_SECONDS = 1800  # v1's own: a queue is given half an hour at least
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
MAX_URI_BYTES, MAX_PART_BYTES = 1024, 255  # an object's name in a bucket; a file's name on a disk
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(name: str, *, field: str) -> str:
    """Return the name if it keeps ML Engine's rule.

    Raises:
        InvalidArgument: naming the field and the rule.
    """
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"{NAME_RULE} Received: {name!r}", field=field)
    return name


def _bucket_uri(uri: str) -> str:
    bucket, _, key = uri.removeprefix("gs://").partition("/")
    parts = key.split("/")
    if not uri.startswith("gs://") or not bucket or ".." in parts or CONTROL.search(uri):
        raise ValueError(f"expected gs://bucket/object; nothing else is read. Received: {uri!r}")
    longest = max(len(part.encode()) for part in [bucket, *parts])
    if len(uri.encode()) > MAX_URI_BYTES or longest > MAX_PART_BYTES:
        raise ValueError(f"an address has {MAX_URI_BYTES} bytes at most, {MAX_PART_BYTES} between slashes.")
    return uri


def _input_path(uri: str) -> str:
    if "*" in uri[:-1]:
        raise ValueError(f"only one trailing * is allowed. Received: {uri!r}")
    return _bucket_uri(uri)


def _duration(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?s", text) or seconds_of(text) <= 0:
        raise ValueError(f"expected seconds, such as '7200s'. Received: {text!r}")
    return text


def _wait_time(text: str) -> str:
    if seconds_of(_duration(text)) < MIN_WAIT_SECONDS:
        raise ValueError(f"expected at least '{MIN_WAIT_SECONDS}s'. Received: {text!r}")
    return text


def _module(text: str) -> str:
    if not MODULE.fullmatch(text):
        raise ValueError(f"expected a dotted module name, such as 'trainer.task'. Received: {text!r}")
    return text


BucketUri = Annotated[str, AfterValidator(_bucket_uri)]
InputPath = Annotated[str, AfterValidator(_input_path)]
Duration = Annotated[str, AfterValidator(_duration)]
WaitTime = Annotated[str, AfterValidator(_wait_time)]
Module = Annotated[str, AfterValidator(_module)]
Labels = Annotated[dict[str, str], Field(max_length=64)]


def seconds_of(duration: str) -> float:
    """Return the seconds of `"7200s"`."""
    return float(duration.removesuffix("s"))


def _without_nulls(schema: dict[str, Any]) -> None:
    """Remove `null` from the JSON schema of an object: a field without a value is absent."""
    for field in schema["properties"].values():
        if {"type": "null"} in field.get("anyOf", ()):
            (kind,) = (kind for kind in field.pop("anyOf") if kind != {"type": "null"})
            field.update(kind)
            field.pop("default", None)


def because(reason: str, names: str) -> dict[str, str]:
    """Return the same reason for each name."""
    return dict.fromkeys(names.split(), reason)


class Message(BaseModel):
    """One object of v1's JSON: lowerCamelCase on the wire, nothing unknown in it."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        json_schema_extra=_without_nulls,
    )

    def to_json(self) -> dict[str, JsonValue]:
        """Return the fields that have a value, in lowerCamelCase."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


class Wire(Message):
    """One object of a request: a `null` counts as absent, and what v1 has and this engine has not is 501."""

    path_prefix: ClassVar[str] = ""  # the path of this object in the object that is read
    unsupported: ClassVar[Mapping[str, str]] = {}  # fields, each with the reason
    unsupported_values: ClassVar[Mapping[str, Mapping[str, str]]] = {}  # of fields, each with the reason
    unspecified: ClassVar[dict[str, dict[str, str]]] = {}  # of enumerations: what their zero value means
    zero_is_absent: ClassVar[frozenset[str]] = frozenset()  # numbers whose default is another
    output_only: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls_and_outputs(cls, value: JsonValue, info: ValidationInfo) -> JsonValue:
        if not isinstance(value, Mapping):
            return value
        values: dict[str, JsonValue] = {}
        names: set[str] = set()
        for key, item in value.items():
            name = to_snake(str(key))
            field = ".".join(filter(None, ((info.context or {}).get("where"), cls.path_prefix, name)))
            if name in names:
                raise InvalidArgument("The field is given twice, in two spellings.", field=field)
            names.add(name)
            if name in cls.unsupported and not cls.means_nothing(name, value):
                raise Unimplemented(
                    f"This engine does not have this part of ML Engine v1: {cls.unsupported[name]}.",
                    field=field,
                )
            if isinstance(item, str):
                item = cls.unspecified.get(name, {}).get(item, item)
            if isinstance(item, str) and (why := cls.unsupported_values.get(name, {}).get(item)):
                raise Unimplemented(f"This engine does not have {item}: {why}.", field=field)
            if name in cls.zero_is_absent and item in (0, "0"):
                continue
            if item is not None and name not in {*cls.unsupported, *cls.output_only}:
                values[key] = item
        return values

    @classmethod
    def means_nothing(cls, name: str, value: Mapping[str, JsonValue]) -> bool:
        """Return True if an object has a field that is not supported, but asks for nothing by it."""
        return all(_is_nothing(item) for key, item in value.items() if to_snake(str(key)) == name)

    @classmethod
    def read(cls, value: JsonValue, *, where: str) -> Self:
        """Check one object of a request.

        Raises:
            InvalidArgument: naming the first field that is wrong.
            Unimplemented: naming a field of v1 that this engine does not have.
        """
        if not isinstance(value, Mapping):
            raise InvalidArgument(f"Expected a JSON object. Received: {str(value)[:80]!r}", field=where)
        try:
            return cls.model_validate(value, context={"where": where})
        except ValidationError as error:
            raise _first_violation(error, where) from error


def _is_nothing(item: JsonValue) -> bool:
    """Return True for what proto3 does not tell from an absent field, and for an object of nothing else."""
    if isinstance(item, Mapping):
        return bool(item) and all(map(_is_nothing, item.values()))
    if isinstance(item, str):
        return item in ("", "0") or item.endswith("_UNSPECIFIED")
    return not item


def _first_violation(error: ValidationError, where: str) -> InvalidArgument:
    first = error.errors()[0]
    path = ".".join([where, *(to_snake(str(part)) for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        name = path.rpartition(".")[2]
        return InvalidArgument(
            f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.', field=path
        )
    return InvalidArgument(first["msg"].removeprefix("Value error, "), field=path)
