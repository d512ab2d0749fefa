"""The engine's only door: what the rest of `pipeline` may use of it. Everything else goes over HTTP."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.engine.backends.local import stop_all_jobs
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings

__all__ = ["EngineSettings", "Sandbox", "engine_arguments", "serving_state", "stop_all_jobs"]


def engine_arguments(*, host: str, port: int, home: Path) -> tuple[str, ...]:
    """Return the arguments of a Python that serves the engine of a home."""
    return ("-m", "pipeline.engine", "--host", host, "--port", str(port), "--home", str(home))


def serving_state(database: Path) -> list[tuple[str, ...]]:
    """Return what a database says of models and versions that the files in the bucket must agree with."""
    queries = (
        "SELECT name, coalesce(default_version, '') FROM models ORDER BY 1",
        "SELECT model, name, state FROM versions ORDER BY 1, 2",
    )
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return [row for query in queries for row in connection.execute(query)]
