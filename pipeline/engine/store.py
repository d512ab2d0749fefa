"""The engine's state: one SQLite database in WAL mode, created and upgraded by Alembic.

The event loop is the only writer and each call takes well under a millisecond of SQLite's time, so a read and
the write that follows from it need no lock: nothing awaits between them. `:predict` never comes here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import JSON, Engine as Database, UniqueConstraint, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline.errors import StackError
from pipeline.types import JsonObject

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {dict[str, Any]: JSON(none_as_null=True), dict[str, str]: JSON(none_as_null=True)}


class JobRow(Base):
    """One job; an id is never used again."""

    __tablename__ = "jobs"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    input: Mapped[dict[str, Any]]
    labels: Mapped[dict[str, str]]
    state: Mapped[str]
    create_time: Mapped[str]
    start_time: Mapped[str | None]
    end_time: Mapped[str | None]
    error_message: Mapped[str | None]
    output: Mapped[dict[str, Any] | None]
    priority: Mapped[int]
    start_before: Mapped[float | None]


class ModelRow(Base):
    """One model."""

    __tablename__ = "models"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(unique=True)
    body: Mapped[dict[str, Any]]
    default_version: Mapped[str | None]
    create_time: Mapped[str]


class VersionRow(Base):
    """One version of a model."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "name"),)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    body: Mapped[dict[str, Any]]
    state: Mapped[str]
    create_time: Mapped[str]
    error_message: Mapped[str | None]
    last_use_time: Mapped[str | None]


class OperationRow(Base):
    """One long-running change of a model or version."""

    __tablename__ = "operations"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    operation_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    model: Mapped[str]
    version: Mapped[str | None]
    labels: Mapped[dict[str, str] | None]
    is_cancellation_requested: Mapped[bool]
    done: Mapped[bool]
    error: Mapped[dict[str, Any] | None]
    response: Mapped[dict[str, Any] | None]
    create_time: Mapped[str]
    end_time: Mapped[str | None]


def now() -> str:
    """Return the current time as RFC 3339 in UTC, as on the wire."""
    return timestamp(time.time())


def timestamp(seconds: float) -> str:
    """Return a time in seconds of the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def etag(resource: JsonObject) -> str:
    """Return a tag that changes when the resource does."""
    digest = hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _set_pragmas(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


class Store:
    """The database of one engine.

    Args:
        path: The SQLite file; created, or upgraded to the newest schema.

    Raises:
        StackError: if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.database: Database = create_engine(f"sqlite:///{path}")
        event.listen(self.database, "connect", _set_pragmas)
        try:
            self._check()
            self._upgrade()
        except DatabaseError as error:
            self.close()
            raise StackError(
                f"The engine's database {path} is damaged ({error.orig}). Move it, {path.name}-wal and "
                f"{path.name}-shm away, start the engine, and run `graft engine rebuild`."
            ) from error
        self._sessions = sessionmaker(self.database, expire_on_commit=False)

    def _check(self) -> None:
        with self.database.connect() as connection:
            problem = connection.scalar(text("PRAGMA quick_check(1)"))
        if problem != "ok":
            raise DatabaseError(None, None, sqlite3.DatabaseError(problem))

    def _upgrade(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with self.database.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def begin(self) -> AbstractContextManager[Session]:
        """Open a transaction: committed at the end of the block, rolled back on an error."""
        return self._sessions.begin()

    def close(self) -> None:
        """Close the database."""
        self.database.dispose()
