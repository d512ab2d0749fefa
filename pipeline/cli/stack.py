"""`graft up`, `graft join`, `graft down`, `graft status`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import pages_url
from pipeline.cli.output import JsonOption, print_json, print_note, print_text
from pipeline.cli.tables import print_table
from pipeline.types import Profile, Role

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
    typer.Option(min=0, max=32, metavar="N", help="Celery workers of the team profile; 2 at first."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST[:PORT]",
        help="Let other machines join a team's stack here, with TLS and a token; `off` ends that.",
    ),
]
FrontOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST[:PORT]",
        help="Answer predictions at one address of a team's stack, by HAProxy; `off` ends that.",
    ),
]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="HOST[:PORT]", help="Where the stack reaches this server, with `--role server`."),
]
RoleOption = Annotated[Role, typer.Option(help="What this machine does for the stack.")]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The stack's `$GRAFT_HOME/servers/join.json`, copied to here; by default that of the last time.",
    ),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(min=1, max=64, metavar="N", help="Tasks at once; by default one for each processor."),
]


def up(
    engine_port: PortOption = None,
    airflow_port: PortOption = None,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    front: FrontOption = None,
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
        address=address,
        front=front,
    )
    if as_json:
        print_json(status.to_dict())
    else:
        print_addresses(status)


def join(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST[:PORT] of the stack's gateway.")],
    role: RoleOption = Role.WORKER,
    token_file: TokenFileOption = None,
    slots: SlotsOption = None,
    listen: ListenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let this machine take tasks or predictions of the team's stack at an address; `graft down` ends that.

    The stack is started with `graft up --profile team --address HOST`. Its file
    `$GRAFT_HOME/servers/join.json` has the token and the certificate: copy it here, readable by you alone.
    """
    from pipeline.config import Settings
    from pipeline.stack.joining import join as start

    logging.getLogger("botocore").setLevel(logging.WARNING)  # Airflow's logging would print where keys are
    name = start(
        Settings(),
        address,
        role=role,
        token_file=token_file,
        slots=slots,
        listen=listen,
        on_progress=print_note,
    )
    if as_json:
        print_json({"name": name, "role": role, "address": address})
    else:
        what = "tasks" if role is Role.WORKER else "predictions"
        print_text(f"{name} takes {what} of the stack at {address}. `graft down` ends that.")


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
    if stack.machines:
        print_text("")
        print_table(
            ("machine", "slots", "predicts at"),
            [(each.name, each.slots, each.serves or "-") for each in stack.machines],
        )


def print_addresses(status: StackStatus) -> None:
    """Print where the stack answers, and how to stop it."""
    if status.joined:
        print_text(f"  {'Server' if status.serves else 'Worker'}    of the stack at {status.joined}")
        print_text("  Stop it   `graft down`")
        return
    engine, airflow = status.engine, status.airflow
    print_text(f"  Airflow   {airflow.url}   user {airflow.username}, password {airflow.password}")
    print_text(f"  Pages     {pages_url(airflow.url or '')}/")
    print_text(f"  Engine    {engine.url}   project {engine.project}, token: `graft status --json`")
    if status.address:
        print_text(f"  Gateway   {status.address}   `graft join {status.address}` on other machines")
    if status.serves:
        print_text(f"  Predict   {status.serves}   one address for all engines and servers")
    print_text("  Stop it   `make down` or `graft down`")
