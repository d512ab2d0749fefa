"""`graft versions`: the versions of a model, and what each was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, print_json, print_text
from pipeline.cli.tables import Moment, RunId, WideOption, print_table
from pipeline.types import JsonDict

if TYPE_CHECKING:
    from pipeline.artifacts.workspace import Workspace
    from pipeline.deploy.lineage import VersionOrigin
    from pipeline.ml_engine.protocol import MLEngine

COLUMNS = ("version", "state", "default", "created", "accuracy", "dataset")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDescription:
    """A version as the engine has it, and what it was made from.

    Args:
        version: Its name.
        state: The engine's state.
        is_default: Whether it serves.
        created: When, ISO 8601; None if the engine does not tell.
        origin: What it was made from.
    """

    version: str
    state: str | None
    is_default: bool
    created: str | None
    origin: VersionOrigin

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {
            "version": self.version,
            "state": self.state,
            "is_default": self.is_default,
            "created": self.created,
            **self.origin.to_dict(),
        }


def versions(name: NameArgument, wide: WideOption = False, as_json: JsonOption = False) -> None:
    """List a classifier's versions, newest first."""
    workspace = open_workspace()
    versions = list_versions(workspace, connect_engine(require_stack()), name)
    if as_json:
        print_json([version.to_dict() for version in versions])
    elif versions:
        print_versions(versions, wide=wide)
    elif stored := workspace.list_models().get(name):
        print_text(
            f"The engine knows no version of {name}, but the bucket holds {len(stored)}: its database was "
            "lost. Register them with `graft engine rebuild`."
        )
    else:
        print_text(f"{name} has no version yet. Make one with `graft run {name}`.")


def print_versions(versions: list[VersionDescription], *, wide: bool) -> None:
    """Print versions as a table, and below it which of them a person deployed in spite of the gate."""
    rows = []
    for each in versions:
        origin = each.origin
        cells = (each.version, each.state, each.is_default, Moment(each.created or ""), origin.accuracy)
        run = (RunId(origin.run_id or ""),) if wide else ()
        rows.append((*cells, origin.dataset_version, *run))
    print_table((*COLUMNS, "run") if wide else COLUMNS, rows, wide=wide)
    for each in versions:
        if override := each.origin.override:
            print_text(
                f"  {each.version} was refused by its gate; {override.by} deployed it: {override.reason}"
            )


def list_versions(workspace: Workspace, engine: MLEngine, name: str) -> list[VersionDescription]:
    """Join the engine's versions with the lineage beside each model, newest first.

    Args:
        workspace: Where model directories are.
        engine: Where the model is served.
        name: The model.
    """
    from pipeline.deploy.lineage import describe_version
    from pipeline.ml_engine.protocol import resource_id

    versions = [
        VersionDescription(
            version=resource_id(resource),
            state=resource.get("state"),
            is_default=bool(resource.get("isDefault")),
            created=resource.get("createTime"),
            origin=describe_version(workspace.model(name, resource_id(resource))),
        )
        for resource in engine.list_versions(name)
    ]
    return sorted(versions, key=lambda each: each.created or "", reverse=True)
