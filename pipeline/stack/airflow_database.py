"""Airflow's own database, before Airflow starts: its tables and the pool of downloads."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version

from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.stack.databases import airflow_remedy, find_damage
from pipeline.stack.environment import PYTHON, Component, database_path
from pipeline.stack.processes import log_tail
from pipeline.stack.state import StackState, save_state

Progress = Callable[[str], None]
MIGRATE_SECONDS = 300
POOL_SLOTS = 2  # of a new pool of downloads


def ensure_database(
    settings: Settings, state: StackState, component: Component, on_progress: Progress
) -> StackState:
    """Make or migrate Airflow's tables, unless this Airflow has done so already.

    Returns:
        The state, which names the version that the tables are of.

    Raises:
        StackError: if the database is damaged, or the command fails, with the end of its log.
    """
    wanted = version("apache-airflow-core")
    if state.database == wanted and _has_row(settings, state, "SELECT version_num FROM alembic_version"):
        return state
    if not state.is_team and (damage := find_damage(database_path(settings))):
        raise StackError(airflow_remedy(database_path(settings), damage))
    on_progress("preparing Airflow's database")
    _run_airflow(settings, component, ("db", "migrate"), what="Preparing Airflow's database")
    state = replace(state, database=wanted)
    save_state(settings.home, state)
    return state


def ensure_pool(settings: Settings, state: StackState, component: Component, on_progress: Progress) -> None:
    """Make the pool of `GRAFT_FETCH_POOL` unless it is there; how many slots it has is then the user's.

    Raises:
        StackError: if the command fails, with the end of its log.
    """
    name = settings.fetch_pool
    if not name or _has_row(settings, state, "SELECT pool FROM slot_pool WHERE pool = ?", name):
        return
    on_progress(f"making the pool {name} with {POOL_SLOTS} slots")
    command = ("pools", "set", name, str(POOL_SLOTS), "Downloads of Graft")
    _run_airflow(settings, component, command, what=f"Making the pool {name}")


def _run_airflow(settings: Settings, component: Component, command: Sequence[str], *, what: str) -> None:
    """Run one of Airflow's commands in the environment of a component.

    Raises:
        StackError: if it fails, with the end of its log.
    """
    log = settings.home / "logs" / f"airflow-{'-'.join(command[:2])}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run(
            [*PYTHON, "-m", "airflow", *command],
            env=component.environ,
            cwd=settings.home,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=MIGRATE_SECONDS,
            umask=0o077,
            check=False,
        )
    if result.returncode:
        raise StackError(f"{what} failed. The end of {log}:\n{log_tail(log)}", log=str(log))


def _has_row(settings: Settings, state: StackState, query: str, *values: str) -> bool:
    """Return True if a query of Airflow's database has a row; without tables it has none."""
    if state.is_team:
        from pipeline.stack.services import find_services, query_airflow

        return query_airflow(settings.home, find_services(settings, state), query, values)
    try:
        with closing(sqlite3.connect(f"{database_path(settings).as_uri()}?mode=ro", uri=True)) as database:
            return bool(database.execute(query, values).fetchall())
    except sqlite3.Error:
        return False
