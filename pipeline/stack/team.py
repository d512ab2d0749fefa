"""The components of a team's stack: servers, two engines, Airflow on Celery with its workers."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from pipeline.config import Settings
from pipeline.engine.control import engine_arguments
from pipeline.stack.environment import (
    AIRFLOW_COMMANDS,
    ENGINE,
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
from pipeline.stack.profile import POSTGRES, REDIS, password_table
from pipeline.stack.servers import (
    ensure_password,
    password_file,
    postgres_account,
    postgres_command,
    prepare_postgres,
    redis_command,
)
from pipeline.stack.services import Services, find_services
from pipeline.stack.state import LOOPBACK, Secrets, StackState

SLOTS = 2  # tasks at once of a worker
API_SERVERS = 2  # processes of Airflow's API server behind its one address
# Each engine and each component of Airflow has one, which starts it again; its file needs nothing of Graft.
KEEPER = (sys.executable, "-P", str(Path(__file__).with_name("keeper.py")))


def prepare(settings: Settings, state: StackState) -> None:
    """Make the directories of the servers that this stack starts itself.

    Raises:
        StackError: if a program is missing, or cannot use its directory.
    """
    if POSTGRES in state.ports:
        prepare_postgres(settings.home)
    if REDIS in state.ports:
        ensure_password(password_file(settings.home, REDIS))


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
        *(
            Component(name=name, command=(*KEEPER, *PYTHON, "-m", "airflow", *arguments), variables=airflow)
            for name, arguments in AIRFLOW_COMMANDS.items()
        ),
        *(
            Component(name=name, command=_worker_command(settings, name), variables=airflow)
            for name in worker_names(state.workers)
        ),
    )


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


def _worker_command(settings: Settings, name: str) -> tuple[str, ...]:
    arguments = (
        *("celery", "worker", "--celery-hostname", celery_node(name)),
        *("--concurrency", str(SLOTS), "--pid", str(airflow_home(settings) / f"{name}.pid")),
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
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(SLOTS * state.workers),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": services.airflow_database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": services.airflow_database,
        # Passwords stay in files: libpq reads the one, Airflow runs the command of the other.
        "PGPASSFILE": str(password_table(settings.home)),
        "AIRFLOW__CELERY__BROKER_URL_CMD": f"cat {shlex.quote(str(broker))}",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        "AIRFLOW__CELERY__OPERATION_TIMEOUT": "30",  # a busy machine needs seconds to send a task
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",  # longer would run twice
        "AIRFLOW__API__WORKERS": str(API_SERVERS),
        **_outage_variables(),
    }


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
