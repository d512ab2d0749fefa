"""`graft rollback` and `graft history`: an older version gets the traffic, and what served when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.output import JsonOption, NameArgument, UsageError, print_json, print_text
from pipeline.cli.tables import Moment, RunId, WideOption, print_table

if TYPE_CHECKING:
    from pipeline.artifacts.history import HistoryEvent, ServingPeriod

ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="VERSION", help="The version; by default the one that served before."),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the deployment history.")
]
ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="A name to record beside that of the signed-in user."),
]


def rollback(
    name: NameArgument,
    reason: ReasonOption,
    to: ToOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an older version of a classifier the traffic, at once."""
    from pipeline.artifacts.gate import add_name
    from pipeline.deploy.rollback import rollback_version

    workspace = open_workspace()
    if not reason.strip():
        raise UsageError("--reason is empty; write a few words for the history.")
    status = require_stack()
    user = status.airflow.username
    done = rollback_version(
        workspace,
        connect_engine(status),
        model=name,
        to=to,
        by=user,
        reason=add_name(reason, by, user=user),
    )
    if as_json:
        print_json(done.to_dict())
    else:
        print_text(f"{name} serves {done.version}, no longer {done.previous}.")


def history(name: NameArgument, wide: WideOption = False, as_json: JsonOption = False) -> None:
    """Show what served when, by which run, and who approved or rolled back and why."""
    from pipeline.artifacts.history import read_history, serving_periods

    workspace = open_workspace()
    events = read_history(workspace, name)
    periods = serving_periods(events)
    if as_json:
        served = [period.to_dict() for period in periods]
        print_json({"classifier": name, "events": [event.to_dict() for event in events], "served": served})
    elif events:
        print_history(events, periods, wide=wide)
    else:
        print_text(f"Nothing was deployed of {name} yet. Make a version with `graft run {name}`.")


def print_history(
    events: Sequence[HistoryEvent], periods: Sequence[ServingPeriod], *, wide: bool = False
) -> None:
    """Print events and serving periods as text, the latest first."""
    rows = []
    for event in reversed(events):
        details = (event.previous, RunId(event.run_id)) if wide else ()
        off = f"switched off: {', '.join(event.switched_off)}" if event.switched_off else None
        reason = event.reason or off
        rows.append((Moment(event.at), event.event, event.version, *details, event.person, reason))
    columns = ("at", "event", "version", *(("previous", "run") if wide else ()), "by", "reason")
    print_table(columns, rows, wide=wide)
    print_text()
    served = [
        (period.version, Moment(period.since), Moment(period.until) if period.until else "now")
        for period in reversed(periods)
    ]
    print_table(("served", "since", "until"), served, wide=wide)
