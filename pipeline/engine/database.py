"""Where the engine's state is: one SQLite file by default, or a database of a PostgreSQL server.

Both are used from the event loop, so neither may make it wait: SQLite gives up a lock at once, and a server
that does not answer is looked for in a thread, while everything that needs it fails at once.
"""

from __future__ import annotations

import ipaddress
import logging
import sqlite3
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline.errors import ConfigError

log = logging.getLogger(__name__)

BUSY_MILLISECONDS = 20  # the event loop waits as long for another process's lock
PASSING = {  # the primary codes of SQLite's errors that end by themselves
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM),
}
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

DRIVER = "postgresql+psycopg"
SCHEMES = ("postgresql", DRIVER)
CONNECT_SECONDS = 2  # the least that libpq takes
LOOK_SECONDS = 0.5  # between two attempts to reach a server that is away
# A stopped engine must not keep a row locked for ever, nor the event loop wait for one.
SERVER_SETTINGS = {
    "lock_timeout": "250ms",
    "statement_timeout": "3s",
    "idle_in_transaction_session_timeout": "5s",
}
PASSING_STATES = ("25006", "25P03")  # read-only, as a standby is; a transaction that stood still too long
CORRUPTED = ("XX001", "XX002")
UPGRADE_LOCK = 0x67726166  # engines that start at the same time upgrade one after the other


class Database(Protocol):
    """One of the two kinds of database."""

    @property
    def name(self) -> str:
        """Its file or address for messages, without a password."""

    @property
    def is_shared(self) -> bool:
        """Whether engines of other homes can reach it, so that a lease must keep them away."""

    def connect(self) -> Engine:
        """Return its connections; none is opened yet."""

    def check(self, connection: Connection) -> None:
        """Look for damage.

        Raises:
            DatabaseError: if there is some.
        """

    def is_passing(self, error: BaseException | None) -> bool:
        """Return True if an error ends by itself: a lock, a disk without room, a server that is away."""

    def is_damage(self, error: BaseException | None) -> bool:
        """Return True if an error says that what is stored is damaged."""

    def describe_damage(self, reason: str) -> str:
        """Return the message of a damaged database, with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteFile:
    """A SQLite file in WAL mode.

    Args:
        path: The file; its directory is made.
    """

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def is_shared(self) -> bool:
        """The lock of the home keeps others away."""
        return False

    def connect(self) -> Engine:
        """Return its connections."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{self.path}")
        event.listen(engine, "connect", _set_pragmas)
        return engine

    def check(self, connection: Connection) -> None:
        """Run SQLite's own check.

        Raises:
            DatabaseError: with the first problem.
        """
        problem = connection.scalar(text("PRAGMA quick_check(1)"))
        if problem != "ok":
            raise DatabaseError(None, None, sqlite3.DatabaseError(problem))

    def is_passing(self, error: BaseException | None) -> bool:
        """Return True for a lock, and for a disk without room."""
        return _has_code(error, PASSING)

    def is_damage(self, error: BaseException | None) -> bool:
        """Return True if the file is damaged, or no database."""
        return _has_code(error, DAMAGED)

    def describe_damage(self, reason: str) -> str:
        """Return the message of a damaged file, with the remedy."""
        return (
            f"The engine's database {self.path} is damaged ({reason}). Move it, {self.path.name}-wal and "
            f"{self.path.name}-shm away, start the engine, and run `graft engine rebuild`."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A database of a PostgreSQL server.

    Args:
        url: Its address, without a password.
        password_file: A file that holds the password, read for each connection; None for libpq's own ways.
    """

    url: URL
    password_file: Path | None = None

    @property
    def name(self) -> str:
        """Host, port and database."""
        host = self.url.host or self.url.query.get("host") or "local socket"
        port = f":{self.url.port}" if self.url.port else ""
        return f"{host}{port}/{self.url.database}"

    @property
    def is_shared(self) -> bool:
        """Whoever knows its address reaches it."""
        return True

    def connect(self) -> Engine:
        """Return its connections.

        Raises:
            ConfigError: if psycopg is not installed.
        """
        try:
            engine = create_engine(
                self.url.set(drivername=DRIVER),
                connect_args=self._connect_arguments(),
                pool_pre_ping=True,
                pool_timeout=CONNECT_SECONDS,
                hide_parameters=True,
            )
        except ModuleNotFoundError as error:
            raise ConfigError(
                "GRAFT_DATABASE names PostgreSQL, which needs psycopg: `pip install 'graft[team]'`."
            ) from error
        event.listen(engine, "do_connect", self._add_password)
        return engine

    def _connect_arguments(self) -> dict[str, str | int]:
        own = self.url.query.get("options", "")
        settings = " ".join(f"-c {name}={value}" for name, value in SERVER_SETTINGS.items())
        arguments: dict[str, str | int] = {
            "application_name": "graft-engine",
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": 1000 * CONNECT_SECONDS,
            "keepalives_idle": CONNECT_SECONDS,
            "keepalives_interval": CONNECT_SECONDS,
            "options": f"{own} {settings}".strip(),
        }
        if not self._is_local and "sslmode" not in self.url.query:
            arguments["sslmode"] = "require"
        return arguments

    @property
    def _is_local(self) -> bool:
        host = self.url.host or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host in ("", "localhost") or host.startswith("/")

    def _add_password(
        self,
        _dialect: Dialect,
        _record: ConnectionPoolEntry | None,
        _arguments: tuple[str, ...],
        parameters: dict[str, str],
    ) -> None:
        if self.password_file is None:
            return
        try:
            parameters["password"] = self.password_file.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"GRAFT_DATABASE_PASSWORD_FILE: {self.password_file} cannot be read: {error.strerror}."
            ) from error

    def check(self, connection: Connection) -> None:
        """Connect; PostgreSQL checks its pages itself."""

    def is_passing(self, error: BaseException | None) -> bool:
        """Return True for a server that is away or full, a lock, a deadlock and a timeout."""
        import psycopg  # an extra: only those who name a server need it

        return isinstance(error, psycopg.OperationalError) or _sqlstate(error) in PASSING_STATES

    def is_damage(self, error: BaseException | None) -> bool:
        """Return True if the server says that its pages or indexes are damaged."""
        return _sqlstate(error) in CORRUPTED

    def describe_damage(self, reason: str) -> str:
        """Return the message of a damaged database, with the remedy."""
        return (
            f"The engine's database {self.name} is damaged ({reason}). Restore it with pg_restore, or name "
            "an empty database in GRAFT_DATABASE, start the engine, and run `graft engine rebuild`."
        )


def read_database(home: Path, url: str, password_file: Path | None) -> Database:
    """Return the database that the settings name.

    Args:
        home: `GRAFT_HOME`.
        url: `GRAFT_DATABASE`; empty for the SQLite file of the home.
        password_file: `GRAFT_DATABASE_PASSWORD_FILE`.

    Raises:
        ConfigError: if the URL is none of PostgreSQL, or carries a password.
    """
    if not url:
        return SqliteFile(path=home / "engine" / "engine.db")
    expected = "GRAFT_DATABASE: expected postgresql+psycopg://USER@HOST:PORT/DATABASE"
    try:
        address = make_url(url)
    except ArgumentError:
        raise ConfigError(f"{expected}. What it says is no URL.") from None
    if address.drivername not in SCHEMES or not address.database:
        raise ConfigError(f"{expected}. Without it the engine's database is a SQLite file of GRAFT_HOME.")
    if address.password or "password" in address.query:
        raise ConfigError(
            "GRAFT_DATABASE carries a password, which lists of processes and logs would show. Write it to a "
            "file that only this user can read, and name the file in GRAFT_DATABASE_PASSWORD_FILE."
        )
    return PostgresServer(url=address, password_file=password_file)


class Outage:
    """The time in which a server cannot be reached: a thread looks for it, so that nothing else waits.

    Args:
        connections: The connections to it.
    """

    def __init__(self, connections: Engine) -> None:
        self._connections = connections
        self._is_closed = threading.Event()
        self.reason = ""

    def begin(self, reason: str) -> None:
        """Fail at once from now on, until the server is there again."""
        if not self.reason and not self._is_closed.is_set():
            self.reason = reason
            threading.Thread(target=self._look, daemon=True, name="database outage").start()

    def _look(self) -> None:
        while not self._is_closed.wait(LOOK_SECONDS):
            try:
                with self._connections.connect() as connection:
                    connection.execute(text("SELECT 1"))
            except (DatabaseError, ConfigError):
                continue
            log.info("The engine's database is there again.")
            self.reason = ""
            return

    def close(self) -> None:
        """Look no more."""
        self._is_closed.set()


def is_disconnect(error: BaseException) -> bool:
    """Return True if an error of SQLAlchemy means that a server could not be reached."""
    return isinstance(error, OperationalError) and (
        error.connection_invalidated or _sqlstate(error.orig) in (None, "57P01", "57P02", "57P03")
    )


def _sqlstate(error: BaseException | None) -> str | None:
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _set_pragmas(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    busy = f"busy_timeout={BUSY_MILLISECONDS}"
    for pragma in (busy, "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _has_code(error: BaseException | None, codes: Collection[int]) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
