"""`graft rollback` and `graft history`: an older version gets the traffic, and what served when."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_table, print_text

if TYPE_CHECKING:
    from pipeline.artifacts.history import HistoryEvent, ServingPeriod

ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="VERSION", help="The version; the one that served before unless given."),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the deployment history.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who wants it; your user name unless given.")]
COLUMNS = ("at", "event", "version", "previous", "run_id", "by", "reason")


def rollback(
    name: NameArgument,
    reason: ReasonOption,
    to: ToOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an older version of a classifier the traffic, at once."""
    from pipeline.deploy.rollback import rollback_version

    workspace = open_workspace()
    if not reason.strip():
        raise UsageError("--reason is empty; write a few words for the history.")
    done = rollback_version(
        workspace,
        connect_engine(require_stack()),
        model=name,
        to=to,
        by=by or getpass.getuser(),
        reason=reason,
    )
    if as_json:
        print_json(done.to_dict())
    else:
        print_text(f"{name} serves {done.version}, no longer {done.previous}.")


def history(name: NameArgument, as_json: JsonOption = False) -> None:
    """Tell what served when, by which run, and who approved or rolled back and why."""
    from pipeline.artifacts.history import read_history, serving_periods

    workspace = open_workspace()
    events = read_history(workspace, name)
    periods = serving_periods(events)
    if as_json:
        served = [period.to_dict() for period in periods]
        print_json({"classifier": name, "events": [event.to_dict() for event in events], "served": served})
    elif events:
        print_history(events, periods)
    else:
        print_text(f"Nothing was deployed of {name} yet. Make a version with `graft run {name}`.")


def print_history(events: Sequence[HistoryEvent], periods: Sequence[ServingPeriod]) -> None:
    """Print events and serving periods for people, the latest first."""
    rows = [{**event.to_dict(), "by": event.person} for event in reversed(events)]
    print_table(COLUMNS, [[row.get(column) for column in COLUMNS] for row in rows])
    print_text()
    served = [(period.version, period.since, period.until or "now") for period in reversed(periods)]
    print_table(("served", "since", "until"), served)
