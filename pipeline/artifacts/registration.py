"""What the engine keeps in the bucket of each model, so that its database can be made again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration(Record):
    """A model as the engine had it.

    Args:
        model: Its v1 resource, as it was created or changed.
        default_version: The version that served; None if there was none.
        versions: The v1 resource of each version that was READY.
    """

    FORMAT: ClassVar[int | None] = 1

    model: JsonDict = field(default_factory=dict)
    default_version: str | None = None
    versions: dict[str, JsonDict] = field(default_factory=dict)


def find_registration(workspace: Workspace, model: str) -> Registration:
    """Return what the engine recorded of a model; an empty record if an engine before these records did."""
    return Registration.find(workspace.storage, workspace.registration(model)) or Registration()
