"""`graft up`, `graft down`, `graft status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import pages_url
from pipeline.cli.output import JsonOption, print_json, print_note, print_text
from pipeline.cli.tables import print_table
from pipeline.types import Profile

if TYPE_CHECKING:
    from pipeline.stack import StackStatus

PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, metavar="PORT", help="Use this port instead of a free one.")
]
ProfileOption = Annotated[
    Profile | None,
    typer.Option(help="What a new stack is made of: `team` has PostgreSQL, Redis and Celery workers."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, max=32, metavar="N", help="Celery workers of the team profile; 2 at first."),
]


def up(
    engine_port: PortOption = None,
    airflow_port: PortOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the engine and Airflow, or what of them is not running."""
    from pipeline.config import Settings
    from pipeline.stack import up as start

    status = start(
        Settings(),
        print_note,
        engine_port=engine_port,
        airflow_port=airflow_port,
        profile=profile,
        workers=workers,
    )
    if as_json:
        print_json(status.to_dict())
    else:
        print_addresses(status)


def down(as_json: JsonOption = False) -> None:
    """End every process of the stack. Data, models and settings stay."""
    from pipeline.config import Settings
    from pipeline.stack import down as stop

    ended = stop(Settings(), print_note)
    if as_json:
        print_json({"ended": ended})
    else:
        print_text(f"{ended} processes ended." if ended else "Nothing was running.")


def status(as_json: JsonOption = False) -> None:
    """Show what runs, where it answers, and Airflow's password."""
    from pipeline.config import Settings
    from pipeline.stack import status as describe
    from pipeline.stack.status import Overall

    stack = describe(Settings())
    if as_json:
        print_json(stack.to_dict())
        return
    print_text(f"The stack is {stack.state}.")
    if stack.state is not Overall.STOPPED:
        print_addresses(stack)
    print_table(("process", "pid", "state"), [(each.name, each.pid, each.state) for each in stack.processes])


def print_addresses(status: StackStatus) -> None:
    """Print where the stack answers, and how to stop it."""
    engine, airflow = status.engine, status.airflow
    print_text(f"  Airflow   {airflow.url}   user {airflow.username}, password {airflow.password}")
    print_text(f"  Pages     {pages_url(airflow.url or '')}/")
    print_text(f"  Engine    {engine.url}   project {engine.project}, token: `graft status --json`")
    print_text("  Stop it   `make down` or `graft down`")
