"""The engine's only door: what the rest of `pipeline` may use of it. Everything else goes over HTTP."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.engine.auth import token_file
from pipeline.engine.backends.local import stop_all_jobs
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings

__all__ = [
    "EngineSettings",
    "Sandbox",
    "database_name",
    "database_problem",
    "engine_arguments",
    "serving_state",
    "stop_all_jobs",
    "token_file",
]


def engine_arguments(
    *, host: str, port: int, home: Path, replica: int = 0, follow: bool = False, tls_file: Path | None = None
) -> tuple[str, ...]:
    """Return the arguments of a Python that serves an engine of a home.

    Args:
        host: What it listens on.
        port: Likewise.
        home: `GRAFT_HOME`.
        replica: Its number among the engines of the home.
        follow: Whether it never leads.
        tls_file: Key and certificate, if it serves TLS.
    """
    arguments = ["-m", "pipeline.engine", "--host", host, "--port", str(port), "--home", str(home)]
    arguments += ["--replica", str(replica)] if replica else []
    arguments += ["--follow"] if follow else []
    arguments += ["--tls-file", str(tls_file)] if tls_file else []
    return tuple(arguments)


def database_name(home: Path, url: str, password_file: Path | None) -> str:
    """Return the file or the address of the database that the settings name, without a password.

    Raises:
        ConfigError: if they name none.
    """
    from pipeline.engine.database import read_database  # SQLAlchemy, which few commands need

    return read_database(home, url, password_file).name


def database_problem(home: Path, url: str, password_file: Path | None) -> str | None:
    """Return why the database that the settings name cannot be used, or None.

    Raises:
        ConfigError: if they name none, or psycopg is not installed.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import DatabaseError

    from pipeline.engine.database import read_database

    connections = read_database(home, url, password_file).connect()
    try:
        with connections.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DatabaseError as error:
        return str(error.orig).strip()
    finally:
        connections.dispose()
    return None


def serving_state(database: Path) -> list[tuple[str, ...]]:
    """Return what a database says of models and versions that the files in the bucket must agree with."""
    queries = (
        "SELECT name, coalesce(default_version, '') FROM models ORDER BY 1",
        "SELECT model, name, state FROM versions ORDER BY 1, 2",
    )
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return [row for query in queries for row in connection.execute(query)]
