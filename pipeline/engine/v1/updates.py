"""`PATCH`: which fields an `updateMask` may name, and what becomes of the resource.

Paths come in either spelling. A path whose field is absent from the body clears the field.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_camel, to_snake

from pipeline.engine.v1.fields import Labels, Wire
from pipeline.engine.v1.resources import VersionPatch
from pipeline.errors import Aborted, InvalidArgument


class LabelsPatch(Wire):
    """What may be changed of a job."""

    labels: Labels = {}


class DefaultVersion(Wire):
    """`model.defaultVersion`, of which only the name is looked at."""

    name: str


class ModelPatch(LabelsPatch):
    """What may be changed of a model."""

    description: str = ""
    default_version: DefaultVersion | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one kind of resource that may be changed.

    Args:
        body: Checks the values.
        paths: The paths that a mask may name, in snake_case.
    """

    body: type[Wire]
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
class Update:
    """A change that was asked for.

    Args:
        values: The fields the mask names, checked, in lowerCamelCase.
        paths: What the mask names, in snake_case, without `etag`.
        etag: The tag of the resource that the client read.
        names_etag: Whether the mask names it.
    """

    values: Mapping[str, Any]
    paths: tuple[str, ...]
    etag: str | None
    names_etag: bool

    def check_etag(self, current: str, *, is_asked: bool) -> None:
        """Check that the resource is still the one the client read.

        Raises:
            Aborted: if it has changed since.
        """
        if is_asked and self.etag != current:
            raise Aborted(
                "The resource was changed since it was read: its etag is another. Read it again.",
                field="etag",
            )

    def apply(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        """Return the resource with what the mask names replaced."""
        changed = copy.deepcopy(dict(resource))
        for path in self.paths:
            _put(changed, [to_camel(name) for name in path.split(".")], self.values)
        return changed


def _put(target: dict[str, Any], names: list[str], source: Mapping[str, Any]) -> None:
    first, rest = names[0], names[1:]
    if first not in source:
        target.pop(first, None)
    elif rest:
        _put(target.setdefault(first, {}), rest, source[first])
    else:
        target[first] = source[first]


def read_update(request: Any, mask: str | None, fields: Fields, *, where: str) -> Update:
    """Read a PATCH.

    Args:
        request: The body: a part of the resource, or all of it.
        mask: The query parameter `updateMask`.
        fields: What may be changed.
        where: The resource's name in errors.

    Raises:
        InvalidArgument: if the mask is empty or names what cannot be changed, or a value is wrong.
    """
    named = [to_snake(path.strip()) for path in (mask or "").split(",") if path.strip()]
    paths = tuple(path for path in named if path != "etag")
    unknown = sorted(set(paths) - fields.paths)
    if unknown or not paths:
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
        values=fields.body.read(part, where=where).to_wire(),
        paths=paths,
        etag=etag if isinstance(etag, str) else None,
        names_etag="etag" in named,
    )
