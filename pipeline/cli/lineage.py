"""`graft lineage` and `graft reproduce`: where a version comes from, and training it again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import (
    ExitCode,
    JsonOption,
    NameArgument,
    print_json,
    print_note,
    print_table,
    print_text,
)

VersionArgument = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="The version; the one that serves unless given.")
]
GivenVersion = Annotated[str, typer.Argument(metavar="VERSION", help="The version.")]


def lineage(name: NameArgument, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Show where a version comes from: run, gate decision, pictures, weights, code, parameters."""
    from pipeline.deploy.trace import trace_version

    workspace = open_workspace()
    found = trace_version(connect_engine(require_stack()), workspace.storage, workspace.uri, name, version)
    print_json(found) if as_json else print_lineage(found)


def print_lineage(found: dict[str, Any]) -> None:
    """Print a version's lineage for people, the latest step first."""
    gate, dataset = found["gate"], found["dataset"]
    low, high = found["evaluation"]["accuracy_ci95"]
    print_text(f"{found['model']} {found['version']}{' (serves)' if found['is_default'] else ''}")
    rows = [
        ("run", found["run_id"]),
        ("decided by", _decided_by(gate)),
        ("gate", "; ".join(gate["reasons"]) or "accepted"),
        ("baseline", gate["note"]),
        ("accuracy", f"{found['evaluation']['accuracy']:.4f} ({low:.4f} to {high:.4f})"),
        ("dataset", f"{dataset['version']}, {_counts(dataset['splits'])}"),
        ("sources", _counts(dataset["sources"])),
        ("licences", _counts(dataset["licenses"])),
        ("manifest", dataset["manifest"]),
        ("weights", found["weights"]["sha256"]),
        ("package", found["package"]["sha256"]),
        *((("head", found["head"]["sha256"]),) if found["head"] else ()),
        ("requirements", (found["requirements"] or {}).get("sha256", "not recorded")),
        ("training job", found["training"]["job"]),
        ("parameters", " ".join(found["training"]["args"] or ["job is gone"])),
        *((event["event"], event["at"]) for event in found["history"]),
    ]
    for title, text in rows:
        print_text(f"  {title:<13} {text}")


def _decided_by(gate: dict[str, Any]) -> str:
    person = gate["approval"] or gate["override"] or {}
    return str(gate["decided_by"]) + (f": {person['reason']}" if person.get("reason") else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def reproduce(name: NameArgument, version: GivenVersion, as_json: JsonOption = False) -> None:
    """Train and evaluate a version again from its exact input, and compare the metrics."""
    import uuid

    from pipeline.deploy.reproduce import reproduce_version

    workspace = open_workspace()
    print_note(f"training and evaluating {version} of {name} again; nothing is deployed")
    found = reproduce_version(
        connect_engine(require_stack()),
        workspace.storage,
        workspace.uri,
        model=name,
        version=version,
        attempt=uuid.uuid4().hex,
    )
    if as_json:
        print_json(found)
    else:
        print_text(f"{version} of {name}: the metrics {'agree exactly' if found['agrees'] else 'DIFFER'}")
        columns = ("recorded", "reproduced")
        print_table(
            ("metric", *columns),
            [(metric, *(repr(found[side][metric]) for side in columns)) for metric in found["recorded"]],
        )
        print_text(f"  largest difference of an output: {found['largest_output_difference']:.3g}")
    raise typer.Exit(ExitCode.OK if found["agrees"] else ExitCode.ERROR)
