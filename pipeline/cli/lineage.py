"""`graft lineage` and `graft reproduce`: where a version comes from, and training it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import (
    ExitCode,
    JsonOption,
    NameArgument,
    print_json,
    print_note,
    print_text,
)
from pipeline.cli.tables import print_table

if TYPE_CHECKING:
    from pipeline.deploy.trace import TracedGate, VersionTrace

VersionArgument = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="The version; by default the one that serves.")
]
GivenVersion = Annotated[str, typer.Argument(metavar="VERSION", help="The version.")]


def lineage(name: NameArgument, version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Show where a version comes from: run, gate decision, pictures, weights, code, parameters."""
    from pipeline.deploy.trace import trace_version

    workspace = open_workspace()
    trace = trace_version(workspace, connect_engine(require_stack()), name, version)
    print_json(trace.to_dict()) if as_json else print_lineage(trace)


def print_lineage(trace: VersionTrace) -> None:
    """Print a version's lineage for people, the latest step first."""
    gate, dataset = trace.gate, trace.dataset
    low, high = trace.evaluation.accuracy_ci95
    print_text(f"{trace.model} {trace.version}{' (serves)' if trace.is_default else ''}")
    rows = [
        ("run", trace.run_id),
        ("decided by", _decided_by(gate)),
        ("gate", "; ".join(gate.reasons) or "accepted"),
        ("baseline", gate.note),
        ("accuracy", f"{trace.evaluation.accuracy:.4f} ({low:.4f} to {high:.4f})"),
        ("dataset", f"{dataset.version}, {_counts(dataset.splits)}"),
        ("sources", _counts(dataset.sources)),
        ("licences", _counts(dataset.licenses)),
        ("manifest", dataset.manifest),
        ("weights", trace.weights.sha256),
        ("package", trace.package.sha256),
        *((("head", trace.head.sha256),) if trace.head else ()),
        ("requirements", trace.requirements.sha256 if trace.requirements else "not recorded"),
        ("training job", trace.training.job),
        *((("tuning", trace.training.tuning.line),) if trace.training.tuning else ()),
        ("parameters", " ".join(trace.training.args or ["job is gone"])),
        *((event.event, event.at) for event in trace.history),
    ]
    for title, text in rows:
        print_text(f"  {title:<13} {text}")


def _decided_by(gate: TracedGate) -> str:
    person = gate.approval or gate.override
    return gate.decided_by + (f": {person.reason}" if person and person.reason else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def reproduce(name: NameArgument, version: GivenVersion, as_json: JsonOption = False) -> None:
    """Train and evaluate a version again from its exact input, and compare the metrics."""
    import uuid

    from pipeline.deploy.reproduce import reproduce_version

    workspace = open_workspace()
    print_note(f"training and evaluating {version} of {name} again; nothing is deployed")
    result = reproduce_version(
        workspace,
        connect_engine(require_stack()),
        model=name,
        version=version,
        attempt=uuid.uuid4().hex,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(f"{version} of {name}: the metrics {'agree exactly' if result.agrees else 'DIFFER'}")
        print_table(
            ("metric", "recorded", "reproduced"),
            [(name, repr(value), repr(result.reproduced[name])) for name, value in result.recorded.items()],
        )
        print_text(f"  largest difference of an output: {result.largest_output_difference:.3g}")
    raise typer.Exit(ExitCode.OK if result.agrees else ExitCode.ERROR)
