"""How a version that exists differs from the one that is wanted, field by field, as v1 patches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pipeline.ml_engine.resources import Version
from pipeline.types import JsonObject, JsonValue

OWN_LABELS = "graft-"  # labels that the engine adds begin with it
PATHS = ("description", "labels", "autoScaling.minNodes", "autoScaling.maxNodes", "manualScaling.nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChange:
    """One field that differs.

    Args:
        path: As `updateMask` spells it.
        present: Its value now.
        wanted: Its value in the request.
    """

    path: str
    present: JsonValue
    wanted: JsonValue


def version_changes(version: Version, body: Version) -> list[VersionChange]:
    """Return what would have to be patched; a field that the request does not have is not compared."""
    changes = []
    for path in PATHS:
        present, wanted = (_value(cast(JsonObject, each), path) for each in (version, body))
        if wanted is not None and wanted != (present if present is not None else type(wanted)()):
            changes.append(VersionChange(path=path, present=present, wanted=wanted))
    return changes


def patch_body(changes: list[VersionChange]) -> JsonObject:
    """Return the body of `versions.patch`."""
    fields = {change.path: change.wanted for change in changes}
    body = {path: value for path, value in fields.items() if "." not in path}
    for parent in {path.partition(".")[0] for path in fields if "." in path}:
        prefix = f"{parent}."
        body[parent] = {
            path.removeprefix(prefix): value for path, value in fields.items() if path.startswith(prefix)
        }
    return body


def _value(version: JsonObject, path: str) -> JsonValue:
    value: JsonValue = version
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if path == "labels" and isinstance(value, Mapping):
        return {key: text for key, text in value.items() if not key.startswith(OWN_LABELS)}
    if path != "description" and isinstance(value, str) and value.isdecimal():
        return int(value)  # proto3's JSON has either
    return value
