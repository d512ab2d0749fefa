"""What a stack is made of and where it answers, from its state and its processes."""

from __future__ import annotations

from pipeline.config import Settings
from pipeline.stack.environment import COMPONENTS, GATEWAY, component_names
from pipeline.stack.machines import Machine, read_machines
from pipeline.stack.state import USERNAME, StackState, load_secrets, load_state
from pipeline.stack.status import (
    PAGES,
    AirflowAddress,
    EngineAddress,
    Overall,
    ProcessState,
    ProcessStatus,
    StackStatus,
)


def status(settings: Settings) -> StackStatus:
    """Describe the stack: its addresses, its secrets, its processes."""
    state, secrets = load_state(settings.home), load_secrets(settings.home)
    processes = tuple(_describe(state, name) for name in _names(state))
    num_alive = sum(process.state is ProcessState.RUNNING for process in processes)
    shown = secrets if num_alive else None
    return StackStatus(
        state=_overall(num_alive, len(processes)),
        engine=EngineAddress(
            url=state.engine_url if shown else None,
            project=settings.project,
            token=shown.engine_token if shown else None,
        ),
        airflow=AirflowAddress(
            url=state.airflow_url if shown else None,
            username=USERNAME,
            password=shown.airflow_password if shown else None,
            pages=PAGES if shown else None,
        ),
        processes=processes,
        address=state.address or None,
        joined=state.joined or None,
        machines=_machines(settings, state),
        serves=state.serves or None,
    )


def _machines(settings: Settings, state: StackState) -> tuple[Machine, ...]:
    """Return the machines that have joined a stack whose gateway runs."""
    record = state.find(GATEWAY)
    return read_machines(settings.home) if record is not None and record.is_alive else ()


def _names(state: StackState) -> tuple[str, ...]:
    return component_names(state) if state.is_team else COMPONENTS


def _overall(num_alive: int, num_components: int) -> Overall:
    if num_alive == num_components:
        return Overall.RUNNING
    return Overall.DEGRADED if num_alive else Overall.STOPPED


def _describe(state: StackState, name: str) -> ProcessStatus:
    record = state.find(name)
    if record is not None and record.is_alive:
        return ProcessStatus(name=name, pid=record.pid, state=ProcessState.RUNNING)
    return ProcessStatus(name=name, pid=None, state=ProcessState.STOPPED)
