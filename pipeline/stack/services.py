"""Where a team's stack finds its databases and its broker, and what it asks of them.

Their clients are the extra `team`, so each is imported where it is used.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.config import Settings
from pipeline.engine.control import database_name
from pipeline.errors import ConfigError, StackError
from pipeline.stack.environment import celery_node, worker_names
from pipeline.stack.profile import POSTGRES, REDIS, password_table
from pipeline.stack.servers import (
    OWNER,
    ensure_password,
    password_file,
    superuser_file,
    write_secret,
)
from pipeline.stack.state import LOOPBACK, StackState

ENGINE_DATABASE = "graft"
AIRFLOW_DATABASE = "airflow"
CONNECT_SECONDS = 5
PING_SECONDS = 10.0  # at most: all that were asked for may answer sooner
EXTRA = ("psycopg", "celery", "redis", "airflow.providers.celery")
_POSTGRES_URL = re.compile(r"postgresql(\+psycopg)?://[^@/:]+@[^/]+/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Addresses without passwords, and the files that hold those.

    Args:
        engine_database: URL of the engines' database.
        airflow_database: URL of Airflow's.
        database_password_file: Password of both; None for libpq's own ways.
        broker: URL of Redis.
        broker_password_file: Its password, or None.
    """

    engine_database: str
    airflow_database: str
    database_password_file: Path | None
    broker: str
    broker_password_file: Path | None

    @property
    def broker_url_file(self) -> str:
        """Name of the file, beside Airflow's own, that has the broker's whole URL."""
        return "broker_url"


def is_own_database(settings: Settings) -> bool:
    """Return True if the stack starts a PostgreSQL server.

    Raises:
        ConfigError: if only one of the two databases is named.
    """
    if bool(settings.database) != bool(settings.airflow_database):
        raise ConfigError(
            "The team profile has two databases, one of the engines and one of Airflow. Name both, in "
            "GRAFT_DATABASE and GRAFT_AIRFLOW_DATABASE, or none: `graft up` then starts PostgreSQL."
        )
    return not settings.database


def find_services(settings: Settings, state: StackState) -> Services:
    """Return where the services of a team are: those that the settings name, else those of the stack.

    Raises:
        ConfigError: if an address is none, or has a password in it.
    """
    if is_own_database(settings):
        server = f"postgresql+psycopg://{OWNER}@{LOOPBACK}:{state.ports.get(POSTGRES, 0)}"
        engine, airflow = f"{server}/{ENGINE_DATABASE}", f"{server}/{AIRFLOW_DATABASE}"
        database_password: Path | None = password_file(settings.home, POSTGRES)
    else:
        engine, airflow = settings.database, settings.airflow_database
        database_password = settings.database_password_file
        database_name(settings.home, engine, database_password)
        if not _POSTGRES_URL.fullmatch(airflow):
            raise ConfigError(
                "GRAFT_AIRFLOW_DATABASE: expected postgresql+psycopg://USER@HOST:PORT/DATABASE without a "
                "password, whose file GRAFT_DATABASE_PASSWORD_FILE names."
            )
        airflow = re.sub(r"^postgresql:", "postgresql+psycopg:", airflow)
    if settings.broker:
        broker, broker_password = settings.broker, settings.broker_password_file
        address = urlsplit(broker)
        if address.scheme not in ("redis", "rediss") or not address.hostname or address.password:
            raise ConfigError(
                "GRAFT_BROKER: expected redis://HOST:PORT/NUMBER or rediss://..., without a password, whose "
                "file GRAFT_BROKER_PASSWORD_FILE names."
            )
    else:
        broker = f"redis://{LOOPBACK}:{state.ports.get(REDIS, 0)}/0"
        broker_password = password_file(settings.home, REDIS)
    return Services(
        engine_database=engine,
        airflow_database=airflow,
        database_password_file=database_password.expanduser().absolute() if database_password else None,
        broker=broker,
        broker_password_file=broker_password.expanduser().absolute() if broker_password else None,
    )


def check_extra() -> None:
    """Check that the packages of the extra `team` are installed, importing none.

    Raises:
        StackError: if one is missing.
    """
    missing = [name for name in EXTRA if not _is_installed(name)]
    if missing:
        raise StackError(
            f"The team profile needs packages that are not installed: {', '.join(missing)}. Install them "
            "with `pip install 'graft[team]'`; in a checkout, `make up PROFILE=team` does."
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def write_credentials(home: Path, services: Services) -> None:
    """Write the files that Airflow reads passwords from."""
    word = _read(services.database_password_file)
    address = urlsplit(services.airflow_database)
    line = [address.hostname or "*", str(address.port or 5432), "*", address.username or "*", word]
    text = ":".join(re.sub(r"([:\\])", r"\\\1", part) for part in line) if word else ""
    write_secret(password_table(home), text)
    write_secret(home / "airflow" / services.broker_url_file, broker_url(services))


def broker_url(services: Services) -> str:
    """Return the broker's address with its password: for a file or a client, never for a log."""
    word = _read(services.broker_password_file)
    address = urlsplit(services.broker)
    if not word:
        return services.broker
    user = address.username or ""
    place = address.netloc.rpartition("@")[2]
    return address._replace(netloc=f"{user}:{quote(word, safe='')}@{place}").geturl()


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"The password file {path} cannot be read: {error.strerror}. GRAFT_DATABASE_PASSWORD_FILE and "
            "GRAFT_BROKER_PASSWORD_FILE name such files."
        ) from error


def make_databases(home: Path, state: StackState) -> None:
    """Make the role and the databases of our own server, unless they are there."""
    import psycopg
    from psycopg import sql

    word = ensure_password(password_file(home, POSTGRES))
    with _connect_superuser(home, state, psycopg) as connection:
        role = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone()
        # The server is given a digest, as psql's \password does, so that no log can show the password.
        digest = connection.pgconn.encrypt_password(word.encode(), OWNER.encode(), b"scram-sha-256").decode()
        command = "ALTER ROLE {} LOGIN PASSWORD {}" if role else "CREATE ROLE {} LOGIN PASSWORD {}"
        connection.execute(sql.SQL(command).format(sql.Identifier(OWNER), sql.Literal(digest)))
        for name in (ENGINE_DATABASE, AIRFLOW_DATABASE):
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                command = "CREATE DATABASE {} OWNER {}"
                connection.execute(sql.SQL(command).format(sql.Identifier(name), sql.Identifier(OWNER)))


def _connect_superuser(home: Path, state: StackState, psycopg: Any) -> Any:
    return psycopg.connect(
        host=LOOPBACK,
        port=state.ports[POSTGRES],
        user=POSTGRES,
        password=ensure_password(superuser_file(home)),
        dbname=POSTGRES,
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
    )


def is_postgres_ready(home: Path, state: StackState) -> bool:
    """Return True if our own server takes connections."""
    import psycopg

    try:
        _connect_superuser(home, state, psycopg).close()
    except psycopg.OperationalError:
        return False
    return True


def broker_problem(services: Services) -> str | None:
    """Return why Redis cannot be used, or None."""
    import redis

    client = redis.Redis.from_url(broker_url(services), socket_connect_timeout=CONNECT_SECONDS)
    try:
        client.ping()
    except redis.RedisError as error:
        return str(error)
    finally:
        client.close()
    return None


def answering_workers(services: Services, nodes: Collection[str]) -> set[str]:
    """Return which of some Celery nodes answer; none while the broker does not."""
    from celery import Celery
    from kombu.exceptions import OperationalError

    app = Celery(broker=broker_url(services), set_as_current=False)
    app.conf.broker_connection_retry = False
    try:
        answers = app.control.ping(destination=list(nodes), timeout=PING_SECONDS, limit=len(nodes))
    except (OperationalError, OSError):
        return set()
    finally:
        app.close()
    return {node for answer in answers for node in answer}


def query_airflow(home: Path, services: Services, query: str, values: Collection[str]) -> bool:
    """Return True if a query of Airflow's database has a row; without tables it has none."""
    import psycopg

    url = re.sub(r"^postgresql\+psycopg:", "postgresql:", services.airflow_database)
    try:
        with psycopg.connect(
            url, passfile=str(password_table(home)), connect_timeout=CONNECT_SECONDS
        ) as connection:
            return connection.execute(query.replace("?", "%s"), tuple(values)).fetchone() is not None
    except psycopg.errors.UndefinedTable:
        return False
    except psycopg.OperationalError as error:
        raise StackError(f"Airflow's database does not answer: {str(error).strip()}") from error


def silent_workers(settings: Settings, state: StackState) -> list[str]:
    """Return the names of the components that are Celery workers and do not answer."""
    nodes = {celery_node(name): name for name in worker_names(state.workers)}
    if not nodes:
        return []
    answering = answering_workers(find_services(settings, state), nodes)
    return [name for node, name in nodes.items() if node not in answering]
