"""Start and stop the local stack: the engine, Airflow's components, and what a team has besides."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.stack.airflow_database import ensure_database, ensure_pool
from pipeline.stack.description import status
from pipeline.stack.environment import (
    API_SERVER,
    COMPONENTS,
    ENGINE,
    FRONT,
    GATEWAY,
    LINK,
    SCHEDULER,
    SECOND_ENGINE,
    Component,
    build_components,
)
from pipeline.stack.health import is_engine_healthy, unhealthy_airflow, wait_healthy
from pipeline.stack.places import check_whole
from pipeline.stack.processes import start_process, stop_processes
from pipeline.stack.profile import POSTGRES, REDIS, SERVERS, choose_profile
from pipeline.stack.state import (
    Secrets,
    StackState,
    ensure_secrets,
    free_ports,
    is_port_free,
    load_state,
    locked,
    recover_state,
    save_state,
    write_private,
)
from pipeline.stack.status import (
    StackStatus,
)
from pipeline.stack.users import parse_users, write_passwords
from pipeline.types import Profile

Progress = Callable[[str], None]
START_SECONDS = 180
TEAM_START_SECONDS = 400  # twice as many processes start at the same time
STOP_SECONDS = 10
DRAIN_SECONDS = 5.0  # a front looks every second, and answers take less
SERVER_STOP_SECONDS = 60  # PostgreSQL writes what it has in memory
PORT_OPTIONS = {ENGINE: "--engine-port", API_SERVER: "--airflow-port"}


def up(
    settings: Settings,
    on_progress: Progress = lambda _: None,
    *,
    engine_port: int | None = None,
    airflow_port: int | None = None,
    profile: Profile | None = None,
    workers: int | None = None,
    address: str | None = None,
    front: str | None = None,
) -> StackStatus:
    """Start what does not run; return when everything is healthy.

    What is alive and was started with the same settings is left alone. What is dead starts on its old port.

    Args:
        settings: Where state lives, and the configuration of the components.
        on_progress: Receives one line a step.
        engine_port: A port for the engine instead of a free one.
        airflow_port: A port for Airflow's API server instead of a free one.
        profile: What to start where the home has no state; that of the home by default.
        workers: How many Celery workers a team's stack has; as many as before by default.
        address: HOST or HOST:PORT where other machines join a team's stack, `off`, or as before by default.
        front: HOST:PORT of one address for predictions of a team's stack, likewise.

    Raises:
        StackError: if a port is taken, a component does not start (with the end of its log), a restore did
            not end, or the home is of another profile, has joined a stack, or cannot let others join.
    """
    with locked(settings.home), ExitStack() as private:
        check_whole(settings.home)
        chosen = choose_profile(settings.home, profile)
        old = load_state(settings.home)
        _check_asked(settings, old, chosen, is_team=workers is not None or bool(address or front))
        state = _choose_ports(old, engine_port, airflow_port)
        if chosen is Profile.TEAM:
            # Its home opens to PostgreSQL's user, and to nothing else.
            private.enter_context(_private_files())
            state = _choose_team(settings, state, workers, address, front)
        secrets = ensure_secrets(settings.home)
        write_passwords(settings.home, secrets.airflow_password, parse_users(settings.users))
        components = _build(settings, state, secrets)
        due = [component for component in components if not _is_current(component, state)]
        # Before anything is stopped, ports that are new to us; those we held ourselves, afterwards.
        _check_ports(state, due, held=_ports(old).values())
        save_state(settings.home, state)
        state = _end_replaced(state, components, due)
        _check_ports(state, due)
        _start(settings, state, due, on_progress)
    return status(settings)


def _check_asked(settings: Settings, state: StackState, chosen: Profile, *, is_team: bool) -> None:
    if is_team and chosen is Profile.LAPTOP:
        raise StackError(
            "Celery workers, other machines and one address for predictions are of the team profile: "
            "`graft up --profile team`."
        )
    if state.joined:
        raise StackError(
            f"{settings.home} has joined the stack at {state.joined}: `graft join {state.joined}` starts its "
            "worker. Name an empty directory for a stack: `GRAFT_HOME=... graft up`."
        )


@contextmanager
def _private_files() -> Iterator[None]:
    """Give what is written meanwhile to its owner alone."""
    umask = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(umask)


def _build(settings: Settings, state: StackState, secrets: Secrets) -> tuple[Component, ...]:
    if not state.is_team:
        return build_components(settings, state, secrets)
    from pipeline.stack import gateway, offer, services, team

    team.prepare(settings, state)
    addresses = services.find_services(settings, state)
    services.write_credentials(settings.home, addresses)
    if state.address:
        write_private(gateway.gateway_file(settings.home), offer.offer_settings(settings, state, addresses))
    return team.build_team(settings, state, secrets)


def _choose_team(
    settings: Settings, state: StackState, workers: int | None, address: str | None, front: str | None
) -> StackState:
    from pipeline.stack.team import choose_team

    return choose_team(settings, state, workers=workers, address=address, front=front)


def _end_replaced(state: StackState, components: Iterable[Component], due: Iterable[Component]) -> StackState:
    """End what starts again and what is no part of the stack any more; return the state without that."""
    names = {component.name for component in components}
    _stop(state, [component.name for component in due] + _surplus(state, names))
    return replace(state, processes=tuple(old for old in state.processes if old.name in names))


def _surplus(state: StackState, names: Collection[str]) -> list[str]:
    """Return what runs and is no part of the stack any more, such as a worker too many."""
    return [record.name for record in state.processes if record.name not in names]


def _choose_ports(state: StackState, engine_port: int | None, airflow_port: int | None) -> StackState:
    """Keep the present ports, unless others are asked for or another program took one since `down`."""
    fresh = free_ports(2)
    idle = not any(record.is_alive for record in state.processes)

    def choose(asked: int | None, kept: int, free: int) -> int:
        if asked:
            return asked
        return free if not kept or (idle and not is_port_free(kept)) else kept

    return replace(
        state,
        engine_port=choose(engine_port, state.engine_port, fresh[0]),
        airflow_port=choose(airflow_port, state.airflow_port, fresh[1]),
    )


def _is_current(component: Component, state: StackState) -> bool:
    record = state.find(component.name)
    return record is not None and record.is_alive and record.fingerprint == component.fingerprint


def _ports(state: StackState) -> dict[str, int]:
    return {ENGINE: state.engine_port, API_SERVER: state.airflow_port, **state.ports}


def _check_ports(state: StackState, due: Iterable[Component], *, held: Collection[int] = ()) -> None:
    names = {component.name for component in due}
    for name, port in _ports(state).items():
        if name in names and port not in held and not is_port_free(port):
            option = PORT_OPTIONS.get(name)
            other = f"choose another port: `graft up {option} PORT`" if option else "run `graft down` first"
            raise StackError(
                f"Port {port} for {name} is in use by another program. End that program "
                f"(`ss -ltnp 'sport = :{port}'` names it), or {other}.",
                port=port,
            )


def _start(settings: Settings, state: StackState, due: list[Component], on_progress: Progress) -> None:
    logs = settings.home / "logs"

    def start(components: Iterable[Component]) -> None:
        for component in components:
            start_one(component)

    def start_one(component: Component) -> None:
        nonlocal state
        on_progress(f"starting {component.name}")
        record = start_process(
            component.name,
            component.command,
            environ=component.environ,
            directory=settings.home,
            log=logs / f"{component.name}.log",
            fingerprint=component.fingerprint,
            account=component.account,
        )
        state = state.with_process(record)
        save_state(settings.home, state)

    airflow = [component for component in due if component.is_airflow]
    start(component for component in due if component.name in SERVERS)
    if state.is_team:
        _wait_for_servers(settings, state, logs)
    start(component for component in due if component.is_engine or component.is_door)
    if airflow:
        state = ensure_database(settings, state, airflow[0], on_progress)
        ensure_pool(settings, state, airflow[0], on_progress)
        for component in sorted(airflow, key=lambda component: component.name == SCHEDULER):
            if component.name == SCHEDULER:
                _wait_for_api_server(state, logs)
            start_one(component)

    if due:
        on_progress("waiting until everything is healthy")
    _wait_for_all(settings, state, logs)


def _wait_for_all(settings: Settings, state: StackState, logs: Path) -> None:
    """Wait until every component is healthy."""

    def waiting() -> list[str]:
        records = [record for record in state.processes if record.name.startswith("airflow-")]
        return (
            _unhealthy_engines(state) + _silent_doors(state) + unhealthy_airflow(state.airflow_url, records)
        )

    seconds = TEAM_START_SECONDS if state.is_team else START_SECONDS
    wait_healthy(waiting, state.processes, logs=logs, seconds=seconds)
    if state.is_team:
        wait_healthy(lambda: _silent_workers(settings, state), state.processes, logs=logs, seconds=seconds)


def _unhealthy_engines(state: StackState) -> list[str]:
    urls = {ENGINE: state.engine_url}
    if state.is_team:
        urls[SECOND_ENGINE] = state.second_engine_url
    return [name for name, url in urls.items() if not is_engine_healthy(url)]


def _silent_doors(state: StackState) -> list[str]:
    from pipeline.stack.join_file import is_listening  # which most stacks do not need

    doors = {GATEWAY: state.address, FRONT: state.serves}
    return [name for name, address in doors.items() if address and not is_listening(address)]


def _silent_workers(settings: Settings, state: StackState) -> list[str]:
    from pipeline.stack.services import silent_workers

    return silent_workers(settings, state)


def _wait_for_servers(settings: Settings, state: StackState, logs: Path) -> None:
    """Wait until our own servers answer, then make the databases that are not there."""
    from pipeline.stack import services

    addresses = services.find_services(settings, state)

    def waiting() -> list[str]:
        names = []
        if POSTGRES in state.ports and not services.is_postgres_ready(settings.home, state):
            names.append(POSTGRES)
        if REDIS in state.ports and services.broker_problem(addresses):
            names.append(REDIS)
        return names

    wait_healthy(waiting, state.processes, logs=logs, seconds=START_SECONDS)
    if POSTGRES in state.ports:
        services.make_databases(settings.home, state)


def _wait_for_api_server(state: StackState, logs: Path) -> None:
    """Wait until Airflow's API server answers: a task that the scheduler starts before that fails at once."""
    records = [record for record in state.processes if record.name == API_SERVER]
    wait_healthy(
        lambda: unhealthy_airflow(state.airflow_url, records),
        records,
        logs=logs,
        seconds=TEAM_START_SECONDS if state.is_team else START_SECONDS,
    )


def down(settings: Settings, on_progress: Progress = lambda _: None) -> int:
    """End every process of the stack, training jobs and model workers too.

    State, data and ports stay; `up` goes on from there. Harmless when nothing runs.

    Returns:
        How many processes were ended.
    """
    if not settings.home.exists():
        return 0
    with locked(settings.home):
        is_recorded = (settings.home / "stack.json").exists()
        state = load_state(settings.home) if is_recorded else recover_state(settings.home)
        on_progress("stopping")
        drained = _leave(state) if state.joined and state.serves else 0
        names = [record.name for record in state.processes] if state.is_team else COMPONENTS
        others = [name for name in names if name not in SERVERS]
        # Servers last: what ends writes to them.
        return drained + _stop(state, others) + _stop_jobs(settings) + _stop(state, SERVERS)


def _leave(state: StackState) -> int:
    """End the link of a server first: the stack's front sends it nothing any more when the server ends."""
    ended = _stop(state, [LINK])
    if ended:
        time.sleep(DRAIN_SECONDS)
    return ended


def _stop(state: StackState, names: Iterable[str]) -> int:
    """End some components, the servers after all others and without waiting for their clients."""
    names = list(names)
    others = [record for record in state.processes if record.name in names and record.name not in SERVERS]
    servers = [record for record in state.processes if record.name in names and record.name in SERVERS]
    ended = stop_processes(others, grace_seconds=STOP_SECONDS)
    if not servers:
        return ended
    return ended + stop_processes(servers, grace_seconds=SERVER_STOP_SECONDS, first=signal.SIGINT)


def _stop_jobs(settings: Settings) -> int:
    from pipeline.engine.control import stop_all_jobs

    return len(stop_all_jobs(settings.home))
