"""`graft join`: a home whose parts are a link to a team's stack elsewhere, and a Celery worker or an engine.

The link gives this machine the ports that the stack has on its own, so the worker is configured as one there.
Connections and keys of Airflow stay with the stack: tasks ask its API for them.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.config import Settings
from pipeline.engine.control import token_file
from pipeline.errors import StackError
from pipeline.stack.environment import ENGINE, Component, celery_node
from pipeline.stack.gateway import digest_of
from pipeline.stack.health import wait_healthy
from pipeline.stack.join_file import (
    JoinFile,
    format_address,
    join_file,
    parse_address,
)
from pipeline.stack.joined_server import is_ready, make_server_key, place, server_key
from pipeline.stack.link import LinkSpec, ask_settings, link_problem, problem_file, spec_file
from pipeline.stack.offer import TAKEN_OVER
from pipeline.stack.processes import start_process, stop_processes
from pipeline.stack.profile import POSTGRES, REDIS, find_profile
from pipeline.stack.servers import password_file, write_secret
from pipeline.stack.services import Services, answering_workers, check_extra, write_credentials
from pipeline.stack.shared_buckets import check_shared
from pipeline.stack.state import StackState, is_port_free, load_state, locked, save_state
from pipeline.stack.team import build_server, build_worker
from pipeline.storage import Storage, parse_buckets
from pipeline.types import JsonDict, Profile, Role

Progress = Callable[[str], None]
LINK_SECONDS = 60
SERVER_SECONDS = 180
WORKER_SECONDS = 400  # like a whole team's stack: Airflow's start is what takes long
STOP_SECONDS = 10


def join(
    settings: Settings,
    address: str,
    *,
    role: Role = Role.WORKER,
    token_file: Path | None = None,
    slots: int | None = None,
    listen: str | None = None,
    on_progress: Progress = lambda _: None,
) -> str:
    """Start what takes tasks or predictions of the team's stack at an address; return when it does.

    Args:
        settings: Whose home is used; all else but DAG directories comes from the stack.
        address: HOST or HOST:PORT.
        role: What this machine does.
        token_file: The join file; that of the last time by default.
        slots: How many tasks a worker takes at once; the number of processors by default.
        listen: HOST or HOST:PORT where a server answers predictions; as before by default.
        on_progress: Receives one line a step.

    Returns:
        The name of this machine in the stack's `graft status`.

    Raises:
        ConfigError: if the address or the join file is none.
        StackError: if no stack answers, it refuses, a setting forbids it, or a part does not start.
    """
    check_extra()
    address = format_address(*parse_address(address))
    home = settings.home
    serves = place(home, role, listen)
    file = JoinFile.read(token_file or join_file(home))
    on_progress(f"asking the stack at {address}")
    offer = ask_settings(address, file)
    settings = settings.model_copy(update={name: offer[name] for name in TAKEN_OVER} | {"classifiers": ""})
    _check(settings, offer, address)
    with locked(home):
        old = _own_state(home)
        state = _state_of(offer, address, serves)
        # Nothing runs on with the settings of the last time.
        stop_processes(old.processes, grace_seconds=STOP_SECONDS)
        _check_ports(state)
        spec = _make_spec(home, state, offer, slots)
        services = _write_files(home, offer, file, spec)
        save_state(home, state)
        components = _build(settings, state, services, spec)
        _start(home, state, components, services, node=_node(spec.name), on_progress=on_progress)
    return spec.name


def _make_spec(home: Path, state: StackState, offer: JsonDict, slots: int | None) -> LinkSpec:
    serves = state.serves
    return LinkSpec(
        address=state.joined,
        name=_machine_name(home),
        slots=0 if serves else slots or len(os.sched_getaffinity(0)),
        digest=digest_of(offer),
        targets=_targets(state),
        serves=serves,
        certificate=make_server_key(home, serves) if serves else "",
    )


def _build(
    settings: Settings, state: StackState, services: Services, spec: LinkSpec
) -> tuple[Component, ...]:
    if spec.serves:
        return build_server(settings, state, services, tls_file=server_key(settings.home))
    return build_worker(settings, state, services, name=spec.name, slots=spec.slots)


def _state_of(offer: JsonDict, address: str, serves: str) -> StackState:
    """Return the state of a home that joins: the ports are those of the stack."""
    return StackState(
        engine_port=int(offer["engine_port"]),
        airflow_port=int(offer["airflow_port"]),
        profile=Profile.TEAM,
        workers=0 if serves else 1,
        ports=dict(offer["ports"]),
        joined=address,
        serves=serves,
    )


def is_answering(home: Path) -> bool:
    """Return True if the worker of a home that has joined answers, by way of the stack's broker."""
    broker = (home / "airflow" / "broker_url").read_text(encoding="utf-8").strip()
    services = Services(
        engine_database="",
        airflow_database="",
        database_password_file=None,
        broker=broker,
        broker_password_file=None,
    )
    return bool(answering_workers(services, [_node(LinkSpec.read(home).name)]))


def _node(name: str) -> str:
    return celery_node("airflow-worker-1", name)


def _own_state(home: Path) -> StackState:
    """Return the state of a home that has joined or is new.

    Raises:
        StackError: if it is that of a stack.
    """
    state = load_state(home)
    if not state.joined and (find_profile(home) or state.processes):
        raise StackError(
            f"{home} has a stack of its own. Name an empty directory: `GRAFT_HOME=... graft join`.",
            home=str(home),
        )
    return state


def _check(settings: Settings, offer: JsonDict, address: str) -> None:
    """Check what the stack and this machine must have in common.

    Raises:
        StackError: if a bucket is a directory, or one cannot be reached, or DAG directories are missing.
    """
    check_shared(settings)
    theirs, ours = int(offer["num_dag_directories"]), len(settings.dag_directories)
    if theirs != ours:
        raise StackError(
            f"The stack at {address} has {theirs} directories in GRAFT_DAGS, and here are {ours}. Copy them "
            "to this machine, and name them in GRAFT_DAGS in the same order."
        )
    storage = Storage({**parse_buckets(settings.buckets)}, cache=settings.home / "cache")
    storage.exists(f"{settings.workspace}/graft-join")


def _targets(state: StackState) -> dict[str, int]:
    return {"engine": state.engine_port, "airflow": state.airflow_port, **state.ports}


def _check_ports(state: StackState) -> None:
    for name, port in _targets(state).items():
        if not is_port_free(port):
            raise StackError(
                f"Port {port} of 127.0.0.1, which {name} has in the stack, is in use here. End the program "
                f"that has it (`ss -ltnp 'sport = :{port}'` names it), or join from another machine.",
                port=port,
            )


def _machine_name(home: Path) -> str:
    """Return the name of this home among all that have joined, which stays."""
    if spec_file(home).exists():
        return LinkSpec.read(home).name
    return f"{socket.gethostname()}-{secrets.token_hex(3)}"


def _write_files(home: Path, offer: JsonDict, file: JoinFile, spec: LinkSpec) -> Services:
    """Write what the parts of this home read, each for its owner alone."""
    umask = os.umask(0o077)
    try:
        file.write(join_file(home))
        spec.write(home)
        problem_file(home).unlink(missing_ok=True)
        files = {}
        for server, key in ((POSTGRES, "database_password"), (REDIS, "broker_password")):
            files[server] = password_file(home, server)
            write_secret(files[server], str(offer[key]))
        write_secret(token_file(home), str(offer["engine_tokens"]))
        services = Services(
            engine_database=str(offer["engine_database"]),
            airflow_database=str(offer["airflow_database"]),
            database_password_file=files[POSTGRES],
            broker=str(offer["broker"]),
            broker_password_file=files[REDIS],
        )
        write_credentials(home, services)
    finally:
        os.umask(umask)
    return services


def _start(
    home: Path,
    state: StackState,
    components: Iterable[Component],
    services: Services,
    *,
    node: str,
    on_progress: Progress,
) -> None:
    """Start the link, and once it has a connection what it is for; wait until that answers.

    Raises:
        StackError: if one ends or takes too long; with the end of its log.
    """
    logs = home / "logs"
    waits = {
        "link": (lambda: ["link"] if link_problem(home) else [], LINK_SECONDS),
        "airflow-worker-1": (
            lambda: [] if answering_workers(services, [node]) else ["airflow-worker-1"],
            WORKER_SECONDS,
        ),
        ENGINE: (lambda: [] if is_ready(home, state.serves) else [ENGINE], SERVER_SECONDS),
    }
    for component in components:
        on_progress(f"starting {component.name}")
        record = start_process(
            component.name,
            component.command,
            environ=component.environ,
            directory=home,
            log=logs / f"{component.name}.log",
            fingerprint=component.fingerprint,
        )
        state = state.with_process(record)
        save_state(home, state)
        waiting, seconds = waits[component.name]
        wait_healthy(waiting, state.processes, logs=logs, seconds=seconds)
