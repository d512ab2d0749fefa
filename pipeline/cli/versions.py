"""`graft versions`: the versions of a model, and what each was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, print_json, print_table, print_text

if TYPE_CHECKING:
    from pipeline.artifacts.workspace import Workspace
    from pipeline.ml_engine.protocol import MLEngine

COLUMNS = ("version", "state", "is_default", "created", "accuracy", "run_id", "dataset_version")


def versions(name: NameArgument, as_json: JsonOption = False) -> None:
    """List a classifier's versions, newest first."""
    versions = list_versions(open_workspace(), connect_engine(require_stack()), name)
    if as_json:
        print_json(versions)
    elif versions:
        print_table(COLUMNS, [[row[column] for column in COLUMNS] for row in versions])
        for row in versions:
            if override := row.get("override"):
                print_text(
                    f"  {row['version']} was refused by its gate, but {override['by']} took it: "
                    f"{override['reason']}"
                )
    else:
        print_text(f"{name} has no version yet. Make one with `graft run {name}`.")


def list_versions(workspace: Workspace, engine: MLEngine, name: str) -> list[dict[str, Any]]:
    """Join the engine's versions with the lineage beside each model.

    Args:
        workspace: Where model directories are.
        engine: Where the model is served.
        name: The model.
    """
    from pipeline.deploy.lineage import describe_version
    from pipeline.ml_engine.protocol import resource_id

    rows = [
        {
            "version": resource_id(resource),
            "state": resource.get("state"),
            "is_default": bool(resource.get("isDefault")),
            "created": resource.get("createTime"),
            **describe_version(workspace.model(name, resource_id(resource))).to_dict(),
        }
        for resource in engine.list_versions(name)
    ]
    return sorted(rows, key=lambda row: str(row["created"]), reverse=True)
