"""`PATCH`: the fields an `updateMask` may name, and how they are applied to the resource.

Paths come in either spelling. A path whose field is absent from the body clears the field.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic.alias_generators import to_camel, to_snake

from pipeline.engine.v1.fields import Labels, Wire
from pipeline.engine.v1.resources import VersionPatch
from pipeline.errors import Aborted, InvalidArgument
from pipeline.types import JsonObject, JsonValue


class LabelsPatch(Wire):
    """What may be changed of a job."""

    labels: Labels = {}


class DefaultVersion(Wire):
    """`model.defaultVersion`; only its name is used."""

    name: str


class ModelPatch(LabelsPatch):
    """What may be changed of a model."""

    description: str = ""
    default_version: DefaultVersion | None = None


AnyPatch = TypeVar("AnyPatch", bound=Wire)


@dataclass(frozen=True, slots=True)
class Fields(Generic[AnyPatch]):
    """The fields of one kind of resource that may be changed.

    Args:
        body: Checks the values.
        paths: The paths that a mask may name, in snake_case.
    """

    body: type[AnyPatch]
    paths: frozenset[str]


JOB_FIELDS = Fields(LabelsPatch, frozenset({"labels"}))
MODEL_FIELDS = Fields(ModelPatch, frozenset({"description", "labels", "default_version.name"}))
VERSION_FIELDS = Fields(
    VersionPatch,
    frozenset(
        "description labels request_logging_config request_logging_config.sampling_percentage "
        "request_logging_config.bigquery_table_name auto_scaling auto_scaling.min_nodes "
        "auto_scaling.max_nodes manual_scaling manual_scaling.nodes".split()
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Generic[AnyPatch]):
    """A change that a client requests.

    Args:
        body: The fields the mask names, checked.
        paths: What the mask names, in snake_case, without `etag`.
        etag: The tag of the resource that the client read.
        names_etag: Whether the mask names it.
    """

    body: AnyPatch
    paths: tuple[str, ...]
    etag: str | None
    names_etag: bool

    def check_etag(self, current: str, *, only_if_named: bool = False) -> None:
        """Check that the resource is still the one the client read.

        Args:
            current: The tag of the resource.
            only_if_named: Whether a tag in the body counts only if the mask names it, as for jobs.

        Raises:
            Aborted: if it has changed since.
        """
        is_checked = self.names_etag or (self.etag is not None and not only_if_named)
        if is_checked and self.etag != current:
            raise Aborted(
                "The resource was changed since it was read: its etag is another. Read it again.",
                field="etag",
            )

    def apply(self, resource: JsonObject) -> dict[str, JsonValue]:
        """Return the resource with what the mask names replaced."""
        changed = copy.deepcopy(dict(resource))
        for path in self.paths:
            _put(changed, [to_camel(name) for name in path.split(".")], self.body.to_json())
        return changed


def _put(target: dict[str, JsonValue], names: list[str], source: JsonObject) -> None:
    first, rest = names[0], names[1:]
    value = source.get(first)
    if first not in source:
        target.pop(first, None)
    elif rest and isinstance(value, Mapping):
        inner = target.setdefault(first, {})
        if isinstance(inner, dict):
            _put(inner, rest, value)
    else:
        target[first] = value


def read_update(
    request: JsonValue, mask: str | None, fields: Fields[AnyPatch], *, where: str
) -> Update[AnyPatch]:
    """Read a PATCH.

    Args:
        request: The body: a part of the resource, or all of it.
        mask: The query parameter `updateMask`.
        fields: What may be changed.
        where: The resource's name in errors.

    Raises:
        InvalidArgument: if the mask is empty or names what cannot be changed, or a value is wrong.
    """
    names = [to_snake(path.strip()) for path in (mask or "").split(",") if path.strip()]
    paths = tuple(path for path in names if path != "etag")
    if not paths or set(paths) - fields.paths:
        raise InvalidArgument(
            f"Expected one or more of {', '.join(sorted(fields.paths))}. Received: {mask!r}",
            field="update_mask",
        )
    if not isinstance(request, Mapping):
        raise InvalidArgument("Expected a JSON object.", field=where)
    tops = {path.partition(".")[0] for path in paths}
    part = {key: value for key, value in request.items() if to_snake(str(key)) in tops}
    etag = request.get("etag")
    return Update(
        body=fields.body.read(part, where=where),
        paths=paths,
        etag=etag if isinstance(etag, str) else None,
        names_etag="etag" in names,
    )
