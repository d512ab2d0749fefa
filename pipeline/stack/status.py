"""The stack as commands see it: its addresses, its secrets, its processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum

from pipeline.stack.machines import Machine
from pipeline.types import JsonDict

PAGES = "/graft/"  # where plugins/graft/ui is mounted


class ProcessState(StrEnum):
    """Whether a component runs."""

    RUNNING = "running"
    STOPPED = "stopped"


class Overall(StrEnum):
    """Whether the stack runs as a whole; `degraded` means that some process is dead."""

    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """Where the engine answers; `url` and `token` are None while nothing runs."""

    url: str | None
    project: str
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowAddress:
    """Where Airflow answers; all but `username` is None while nothing runs."""

    url: str | None
    username: str
    password: str | None = field(repr=False)
    pages: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One component; `pid` is None while it is stopped."""

    name: str
    pid: int | None
    state: ProcessState


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """What `graft status --json` prints.

    Args:
        state: Of all processes together.
        engine: Where the engine answers.
        airflow: Where Airflow answers.
        processes: Of this machine.
        address: Where other machines join a team's stack; None if none may.
        joined: The address of the stack that this machine has joined, or None.
        machines: Those that have joined this stack.
        serves: HOST:PORT of the one address for predictions, or of this server; None if there is none.
    """

    state: Overall
    engine: EngineAddress
    airflow: AirflowAddress
    processes: tuple[ProcessStatus, ...]
    address: str | None = None
    joined: str | None = None
    machines: tuple[Machine, ...] = ()
    serves: str | None = None

    @property
    def stopped(self) -> list[str]:
        """Names of the components that do not run."""
        return [process.name for process in self.processes if process.state is ProcessState.STOPPED]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values; where no machine may join, nothing about machines."""
        value: JsonDict = asdict(self)
        if not self.address and not self.joined:
            for name in ("address", "joined", "machines"):
                del value[name]
        if not self.serves:
            del value["serves"]
        return value
