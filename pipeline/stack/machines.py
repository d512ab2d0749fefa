"""Which machines have joined a team's stack: the gateway writes it, `graft status` reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.stack.state import write_private


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that has joined.

    Args:
        name: Of the machine, and of its home there.
        slots: How many tasks it takes at once.
        since: Seconds since the epoch.
        serves: HOST:PORT where it answers predictions; empty if it does not.
        certificate: What it answers them with, as PEM.
    """

    name: str
    slots: int
    since: float
    serves: str = ""
    certificate: str = ""


def machines_file(home: Path) -> Path:
    """Return the file that says who has joined; `graft.team_executor` and `graft status` read it."""
    return home / "servers" / "machines.json"


def read_machines(home: Path) -> tuple[Machine, ...]:
    """Return who has joined a stack; nobody where there is no gateway."""
    try:
        value = json.loads(machines_file(home).read_bytes())
        return tuple(Machine(**machine) for machine in value["machines"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def write_machines(home: Path, own_slots: int, machines: tuple[Machine, ...] = ()) -> None:
    """Write who has joined, and how many tasks the stack takes at once."""
    slots = own_slots + sum(machine.slots for machine in machines)
    write_private(machines_file(home), {"slots": slots, "machines": [asdict(each) for each in machines]})
