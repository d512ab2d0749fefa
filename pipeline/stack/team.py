"""The components of a team's stack: servers, two engines, Airflow on Celery with its workers."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from pipeline.config import Settings
from pipeline.engine.control import engine_arguments
from pipeline.errors import StackError
from pipeline.stack.environment import (
    AIRFLOW_COMMANDS,
    ENGINE,
    FRONT,
    GATEWAY,
    LINK,
    PYTHON,
    SECOND_ENGINE,
    Component,
    airflow_home,
    airflow_variables,
    celery_node,
    engine_variables,
    graft_variables,
    pipeline_variables,
    worker_names,
)
from pipeline.stack.front import ensure_front_key
from pipeline.stack.join_file import DEFAULT_PORT, ensure_join_file, format_address, parse_address
from pipeline.stack.profile import DEFAULT_WORKERS, HAPROXY, POSTGRES, REDIS, password_table
from pipeline.stack.servers import (
    ensure_password,
    find_programs,
    password_file,
    postgres_account,
    postgres_command,
    prepare_postgres,
    redis_command,
)
from pipeline.stack.services import Services, check_extra, find_services, is_own_database
from pipeline.stack.shared_buckets import check_shared, has_directory
from pipeline.stack.state import LOOPBACK, Secrets, StackState, free_ports, is_port_free
from pipeline.types import Profile

SLOTS = 2  # tasks at once of a worker
API_SERVERS = 2  # processes of Airflow's API server behind its one address
CLOSED = "off"  # no other machine may join any more, or no one address predicts
FRONT_PORT = 8471
MOST_SLOTS = 256  # of all machines together, where others may join
# What only the stack's own machine has: tasks elsewhere ask the API server for connections.
WITHHELD = (
    *("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"),
    *("AIRFLOW_CONN_ML_ENGINE_DEFAULT", "AIRFLOW_CONN_GRAFT_AIRFLOW_API"),
)
# Each engine and each component of Airflow has one, which starts it again; its file needs nothing of Graft.
KEEPER = (sys.executable, "-P", str(Path(__file__).with_name("keeper.py")))


def choose_team(
    settings: Settings,
    state: StackState,
    *,
    workers: int | None,
    address: str | None,
    front: str | None = None,
) -> StackState:
    """Return the state with the ports, the workers and the addresses of a team's stack.

    Args:
        settings: Which servers run already.
        state: As it was.
        workers: How many Celery workers; as many as before by default.
        address: Where other machines join, or `off`; as before by default.
        front: Where one address answers predictions, or `off`; as before by default.

    Raises:
        ConfigError: if the address is none.
        StackError: if a package or a program is missing, or other machines could not see a bucket.
    """
    check_extra()
    own = [POSTGRES] if is_own_database(settings) else []
    own += [] if settings.broker else [REDIS]
    for name in own:
        find_programs(name)
    names = [*own, SECOND_ENGINE]
    idle = not any(record.is_alive for record in state.processes)
    ports = {}
    for name, free in zip(names, free_ports(len(names)), strict=True):
        kept = state.ports.get(name, 0)
        ports[name] = free if not kept or (idle and not is_port_free(kept)) else kept
    place = state.address if address is None else _read_address(address)
    if place:
        check_shared(settings)
    serves = state.serves if front is None else _read_address(front, FRONT_PORT)
    if serves:
        find_programs(HAPROXY)
    count = workers if workers is not None else state.workers if state.is_team else DEFAULT_WORKERS
    if not (count or place):
        raise StackError(
            "A team's stack needs workers: `--workers N`, or `--address HOST` for other machines."
        )
    return replace(state, profile=Profile.TEAM, workers=count, ports=ports, address=place, serves=serves)


def _read_address(text: str, port: int = DEFAULT_PORT) -> str:
    return "" if text == CLOSED else format_address(*parse_address(text, port))


def prepare(settings: Settings, state: StackState) -> None:
    """Make the directories of the servers that this stack starts itself.

    Raises:
        StackError: if a program is missing, or cannot use its directory.
    """
    if POSTGRES in state.ports:
        prepare_postgres(settings.home)
    if REDIS in state.ports:
        ensure_password(password_file(settings.home, REDIS))
    if state.address:
        ensure_join_file(settings.home)
    if state.serves:
        ensure_front_key(settings.home, state.serves)


def build_team(settings: Settings, state: StackState, secrets: Secrets) -> tuple[Component, ...]:
    """Return the components in the order of their start."""
    services = find_services(settings, state)
    shared = graft_variables(settings)
    engines = shared | engine_variables() | _database_variables(services)
    airflow = shared | pipeline_variables(settings) | _airflow_variables(settings, state, secrets, services)
    return (
        *_servers(settings.home, state),
        *(
            Component(
                name=name,
                command=(
                    *KEEPER,
                    *PYTHON,
                    *engine_arguments(host=LOOPBACK, port=port, home=settings.home, replica=replica),
                ),
                variables=engines,
            )
            for replica, (name, port) in enumerate(engine_ports(state).items())
        ),
        *_gateway(settings, state, shared),
        *_front(settings, state, shared),
        *(
            Component(name=name, command=(*KEEPER, *PYTHON, "-m", "airflow", *arguments), variables=airflow)
            for name, arguments in AIRFLOW_COMMANDS.items()
        ),
        *(
            Component(name=name, command=_worker_command(settings, name), variables=airflow)
            for name in worker_names(state.workers)
        ),
    )


def build_server(
    settings: Settings, state: StackState, services: Services, *, tls_file: Path
) -> tuple[Component, ...]:
    """Return the components of a home that predicts for a stack, in the order of their start.

    Args:
        settings: Those of the stack, but with this machine's home.
        state: Of this home, with the ports of the stack.
        services: The databases as they are seen from here.
        tls_file: Key and certificate of the server.
    """
    shared = graft_variables(settings)
    host, port = parse_address(state.serves)
    arguments = engine_arguments(host=host, port=port, home=settings.home, follow=True, tls_file=tls_file)
    variables = shared | engine_variables() | _database_variables(services)
    return (
        _link(settings, shared),
        Component(name=ENGINE, command=(*KEEPER, *PYTHON, *arguments), variables=variables),
    )


def _link(settings: Settings, shared: dict[str, str]) -> Component:
    command = (*KEEPER, *PYTHON, "-m", "pipeline.stack.link", "--home", str(settings.home))
    return Component(name=LINK, command=command, variables=shared)


def build_worker(
    settings: Settings, state: StackState, services: Services, *, name: str, slots: int
) -> tuple[Component, ...]:
    """Return the components of a home that takes a stack's tasks, in the order of their start.

    Args:
        settings: Those of the stack, but with this machine's home.
        state: Of this home, with the ports of the stack.
        services: The databases and the broker as they are seen from here.
        name: Of this machine.
        slots: How many tasks it takes at once.
    """
    shared = graft_variables(settings)
    nothing = Secrets(engine_token="", airflow_password="", jwt_secret="", api_secret_key="", fernet_key="")
    airflow = shared | pipeline_variables(settings) | _airflow_variables(settings, state, nothing, services)
    kept = {variable: value for variable, value in airflow.items() if variable not in WITHHELD}
    (worker,) = worker_names(state.workers)
    return (
        _link(settings, shared),
        Component(
            name=worker,
            command=_worker_command(settings, worker, machine=name, slots=slots),
            variables=kept,
        ),
    )


def _gateway(settings: Settings, state: StackState, shared: dict[str, str]) -> tuple[Component, ...]:
    if not state.address:
        return ()
    host, port = parse_address(state.address)
    arguments = ("--home", str(settings.home), "--host", host, "--port", str(port))
    own = ("--own-slots", str(SLOTS * state.workers))
    command = (*KEEPER, *PYTHON, "-m", "pipeline.stack.gateway", *arguments, *own)
    return (Component(name=GATEWAY, command=command, variables=shared | pipeline_variables(settings)),)


def _front(settings: Settings, state: StackState, shared: dict[str, str]) -> tuple[Component, ...]:
    if not state.serves:
        return ()
    ports = tuple(map(str, engine_ports(state).values()))
    arguments = ("--home", str(settings.home), "--listen", state.serves, "--engine", *ports)
    command = (*KEEPER, *PYTHON, "-m", "pipeline.stack.front", *arguments)
    return (Component(name=FRONT, command=command, variables=shared),)


def engine_ports(state: StackState) -> dict[str, int]:
    """Return the port of each engine."""
    second = {SECOND_ENGINE: state.ports[SECOND_ENGINE]} if state.is_team else {}
    return {ENGINE: state.engine_port, **second}


def _servers(home: Path, state: StackState) -> list[Component]:
    servers = []
    if POSTGRES in state.ports:
        command = postgres_command(home, state.ports[POSTGRES])
        account = postgres_account()
        servers.append(Component(name=POSTGRES, command=command, variables={"LC_ALL": "C"}, account=account))
    if REDIS in state.ports:
        servers.append(Component(name=REDIS, command=redis_command(home, state.ports[REDIS]), variables={}))
    return servers


def _worker_command(
    settings: Settings, name: str, *, machine: str = "graft", slots: int = SLOTS
) -> tuple[str, ...]:
    arguments = (
        *("celery", "worker", "--celery-hostname", celery_node(name, machine)),
        *("--concurrency", str(slots), "--pid", str(airflow_home(settings) / f"{name}.pid")),
        *("--skip-serve-logs", "--without-gossip", "--without-mingle"),
    )
    return (*KEEPER, *PYTHON, "-m", "airflow", *arguments)


def _database_variables(services: Services) -> dict[str, str]:
    file = services.database_password_file
    named = {"GRAFT_DATABASE_PASSWORD_FILE": str(file)} if file else {}
    return {"GRAFT_DATABASE": services.engine_database, **named}


def _airflow_variables(
    settings: Settings, state: StackState, secrets: Secrets, services: Services
) -> dict[str, str]:
    broker = airflow_home(settings) / services.broker_url_file
    return airflow_variables(settings, state, secrets) | {
        # The other one counts the slots of the machines that have joined.
        "AIRFLOW__CORE__EXECUTOR": "graft.team_executor.TeamExecutor" if state.address else "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(MOST_SLOTS if state.address else SLOTS * state.workers),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": services.airflow_database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": services.airflow_database,
        # Passwords stay in files: libpq reads the one, Airflow runs the command of the other.
        "PGPASSFILE": str(password_table(settings.home)),
        "AIRFLOW__CELERY__BROKER_URL_CMD": f"cat {shlex.quote(str(broker))}",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__CELERY__OPERATION_TIMEOUT": "30",  # a busy machine needs seconds to send a task
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",  # longer would run twice
        "AIRFLOW__API__WORKERS": str(API_SERVERS),
        **_log_variables(settings),
        **_outage_variables(),
    }


def _log_variables(settings: Settings) -> dict[str, str]:
    """Return where logs of tasks go: to the bucket too, unless it is a directory of this very machine."""
    if has_directory(settings):
        return {}
    return {"AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "graft.task_logs.LOGGING_CONFIG"}


def _outage_variables() -> dict[str, str]:
    """Return the settings that keep tasks alive while a server is away or slow, and find lost ones."""
    return {
        # A worker ends a task after 3 heartbeats that fail, which 25 s without a database can be. 7 are more
        # than the minute after which the scheduler gives a silent task up ([workers] in Airflow's
        # configuration reference).
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "7",
        # A busy API server needs more than 5 s for an answer, and 5 timeouts cost a try: seen here, and the
        # advice of the configuration reference of Airflow for high load.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
        # Celery keeps results in Airflow's database, and drops one that it cannot write at once: the
        # scheduler would count the task's slot as taken until it ends (result_backend_always_retry in
        # Celery's configuration reference).
        "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": json.dumps({"result_backend_always_retry": True}),
        # A message that Redis or a killed worker has lost leaves its task queued: 5 minutes, not 10.
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "300",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "30",
    }
