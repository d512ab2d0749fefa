"""The components of a team's stack: servers, two engines, Airflow on Celery with its workers."""

from __future__ import annotations

import shlex
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
                    *PYTHON,
                    *engine_arguments(host=LOOPBACK, port=port, home=settings.home, replica=replica),
                ),
                variables=engines,
            )
            for replica, (name, port) in enumerate(engine_ports(state).items())
        ),
        *(
            Component(name=name, command=(*PYTHON, "-m", "airflow", *arguments), variables=airflow)
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
    return (*PYTHON, "-m", "airflow", *arguments)


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
    }
