"""The SQLite databases of the stack: the engine's and Airflow's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def find_damage(path: Path) -> str | None:
    """Return what SQLite finds wrong with a database; None if nothing, or if there is no file.

    A database that another process keeps locked is not checked.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            (problem,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if problem == "ok" else str(problem)


def airflow_remedy(path: Path, damage: str) -> str:
    """Return the message of a damaged database of Airflow."""
    return (
        f"Airflow's database {path} is damaged ({damage}). Restore it from a backup with `graft restore`, or "
        f"move it, {path.name}-wal and {path.name}-shm away: `graft up` then makes a new one, without the "
        "runs, the connections and the variables that were in it. Models, datasets and history are in the "
        "bucket and stay."
    )


def engine_remedy(path: Path, damage: str) -> str:
    """Return the message of a damaged database of the engine."""
    return (
        f"The engine's database {path} is damaged ({damage}). Move it, {path.name}-wal and {path.name}-shm "
        "away, run `graft up`, then `graft engine rebuild`."
    )
