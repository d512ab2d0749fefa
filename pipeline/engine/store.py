"""The engine's state in one SQL database, created and upgraded by Alembic.

One engine writes to it, from its event loop only, so a read and the write that follows from it need no lock:
nothing awaits between them. Engines that follow this one read. `:predict` never comes here.
A database that is locked by another process, has no disk left or is away fails at once, so that the loop
never waits: clients get a 503, and the engine's own tasks write through `retry`, which waits off the loop.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    JSON,
    Dialect,
    Double,
    Engine as Connections,
    String,
    TypeDecorator,
    UniqueConstraint,
    event,
    insert,
    select,
)
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from pipeline.engine.database import Database, Outage, SqliteFile, is_disconnect
from pipeline.engine.upgrade import check_revision, upgrade_tables
from pipeline.errors import DatabaseUnavailable, FormatTooNew, StackError
from pipeline.types import JsonObject

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)  # between attempts to write; the last one again and again
Result = TypeVar("Result")


class Text(TypeDecorator[str]):
    """Text that may hold the character NUL, as the log of a job may: PostgreSQL has a replacement for it."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the value as the database takes it."""
        return value.replace("\0", "\ufffd") if value and dialect.name == "postgresql" else value


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {
        str: Text,
        dict[str, Any]: JSON(none_as_null=True),
        dict[str, str]: JSON(none_as_null=True),
    }


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
    home: Mapped[str | None]  # whose machine runs it, of a training job that engines share; see `lease.py`


class TrialRow(Base):
    """One trial of a hyperparameter tuning job; `metrics` has pairs of step and value, the latest last."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("job_id", "trial_id"),)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str]
    trial_id: Mapped[int]
    hyperparameters: Mapped[dict[str, str]]
    state: Mapped[str]
    start_time: Mapped[str | None]
    end_time: Mapped[str | None]
    metrics: Mapped[list[list[float]]] = mapped_column(JSON)
    is_stopped_early: Mapped[bool]
    error_message: Mapped[str | None]


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


class LeaseRow(Base):
    """What an engine holds until a time of the server's clock: the right to change the database."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    expires: Mapped[float] = mapped_column(Double)
    process: Mapped[str] = mapped_column(server_default="")  # tells others on its machine that it is dead
    address: Mapped[str] = mapped_column(server_default="")  # where others send what they may not do


class ReaderTokenRow(Base):
    """What engines that share a database keep of a reader token."""

    __tablename__ = "reader_tokens"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    token_id: Mapped[str] = mapped_column(unique=True)
    model: Mapped[str]
    name: Mapped[str]
    created: Mapped[str]
    sha256: Mapped[str]


class RouteChangeRow(Base):
    """A model that changed, or a version of it: engines that follow read its routes again."""

    __tablename__ = "route_changes"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str]


def _changed_models(session: Session) -> set[str]:
    rows = (*session.new, *session.dirty, *session.deleted)
    models = {row.name for row in rows if isinstance(row, ModelRow)}
    return models | {row.model for row in rows if isinstance(row, VersionRow)}


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


class Fence(Protocol):
    """Who may change a database that engines share."""

    @property
    def is_ours(self) -> bool:
        """Whether this engine may."""

    def check(self, session: Session) -> None:
        """Begin a transaction: one that may write, or one that only reads.

        Raises:
            DatabaseUnavailable: if this engine might until another took over.
        """


class Store:
    """The database of one engine.

    Args:
        database: Where it is, or the path of a SQLite file; created, or upgraded to the newest schema.

    Raises:
        StackError: if it is damaged, or cannot be used now.
        FormatTooNew: if a newer version of Graft wrote it.
    """

    def __init__(self, database: Database | Path) -> None:
        self._place = place = SqliteFile(path=database) if isinstance(database, Path) else database
        self.database: Connections = place.connect()
        self._outage = Outage(self.database)
        self._fence: Fence | None = None
        try:
            self.check_revision()
            self._upgrade()
            self._sessions = sessionmaker(self.database, expire_on_commit=False)
            self._read_rows()
        except DatabaseUnavailable as error:
            self.close()
            raise StackError(error.message) from error
        except (FormatTooNew, StackError):
            self.close()
            raise
        except DatabaseError as error:
            self.close()
            if place.is_passing(error.orig):
                raise StackError(
                    f"The engine's database {place.name} cannot be used now: {error.orig}."
                ) from error
            raise self.damaged(str(error.orig)) from error

    @property
    def is_shared(self) -> bool:
        """Whether engines of other homes can reach the database."""
        return self._place.is_shared

    @property
    def name(self) -> str:
        """The file or the address of the database, for messages."""
        return self._place.name

    @property
    def may_write(self) -> bool:
        """Whether this engine may change the database."""
        return self._fence is None or self._fence.is_ours

    def fenced(self, fence: Fence | None) -> Store:
        """Return the same database with something that begins each transaction, or without."""
        store = copy(self)
        store._fence = fence
        return store

    def damaged(self, reason: str) -> StackError:
        """Return the error of a damaged database, with the remedy."""
        return StackError(self._place.describe_damage(reason))

    def _read_rows(self) -> None:
        """Read every row: a database's own check finds no damage within a value."""
        try:
            with self.begin() as session:
                for table in (ModelRow, VersionRow, JobRow, OperationRow, TrialRow):
                    for _ in session.scalars(select(table).execution_options(yield_per=1000)):
                        pass
        except (ValueError, TypeError) as error:  # no JSON, or no UTF-8
            raise DatabaseError(None, None, error) from error

    def watch_models(self, notify: Callable[[Iterable[str]], None]) -> None:
        """Call a function with the names of models, after each commit that changed them or their versions."""

        def collect(session: Session, _context: object) -> None:
            changed = _changed_models(session)
            session.info.setdefault("models", set()).update(changed)
            if changed and self.is_shared:
                session.connection().execute(
                    insert(RouteChangeRow), [{"model": name} for name in sorted(changed)]
                )

        def commit(session: Session) -> None:
            if names := session.info.pop("models", None):
                notify(names)

        event.listen(self._sessions, "after_flush", collect)
        event.listen(self._sessions, "after_commit", commit)

    def check_revision(self) -> None:
        """Check for damage, and that this version of Graft reads the database's format.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
        """
        with self.database.connect() as connection:
            self._place.check(connection)
            check_revision(connection, self._place)

    def _upgrade(self) -> None:
        with self.database.begin() as connection:
            upgrade_tables(connection, self._place)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """Open a transaction: committed at the end of the block, rolled back on an error.

        Raises:
            DatabaseUnavailable: if the database is locked, away or damaged, or its disk is full; nothing was
                written.
        """
        if self._outage.reason:
            raise self._unavailable(self._outage.reason)
        try:
            with self._sessions.begin() as session:
                if self._fence is not None:
                    self._fence.check(session)
                yield session
        except (DatabaseError, sqlite3.DatabaseError) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            if self._place.is_damage(cause):
                raise DatabaseUnavailable(
                    self._place.describe_damage(str(cause)), retry_after_seconds=60
                ) from error
            if not self._place.is_passing(cause):
                raise
            if self.is_shared and is_disconnect(error):
                self._outage.begin(str(cause))
            raise self._unavailable(str(cause)) from error

    def _unavailable(self, reason: str) -> DatabaseUnavailable:
        text = f"The engine's database cannot be used now: {reason}. Nothing was changed; try again."
        return DatabaseUnavailable(text, retry_after_seconds=1)

    async def retry(self, work: Callable[[], Result]) -> Result:
        """Return the result of work that uses the database, repeating it with back-off until it can.

        Args:
            work: Opens transactions; it must be possible to repeat.
        """
        for seconds in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                return work()
            except DatabaseUnavailable as error:
                log.warning("%s", error.message)
            await asyncio.sleep(seconds)
        raise AssertionError("the last pause repeats for ever")

    def close(self) -> None:
        """Close the database."""
        self._outage.close()
        self.database.dispose()
