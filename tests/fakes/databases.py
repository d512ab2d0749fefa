"""The database of an engine under test: a SQLite file, or a server's if `GRAFT_TEST_DATABASE=postgresql`."""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from pathlib import Path

from pipeline.engine.database import Database, SqliteFile

RESOURCES = ExitStack()
IS_POSTGRES = os.environ.get("GRAFT_TEST_DATABASE", "sqlite") == "postgresql"


@functools.cache
def database_of(home: Path) -> Database:
    """Return the database of a home, the same each time."""
    if not IS_POSTGRES:
        return SqliteFile(path=home / "engine" / "engine.db")
    return shared_server().new_database()


@functools.cache
def shared_server():  # type: ignore[no-untyped-def]
    """Return the server of this process, until `end_server`."""
    from tests.fakes.postgres import running

    return RESOURCES.enter_context(running())


def end_server() -> None:
    """End the server if one was started; at exit it would be too late, for pytest kills its workers."""
    RESOURCES.close()
