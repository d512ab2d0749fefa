"""The tables of the engine's database, made and upgraded by Alembic."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from pipeline.engine.database import UPGRADE_LOCK, Database
from pipeline.errors import FormatTooNew, StackError

MIGRATIONS = Path(__file__).parent / "migrations"
LEASE = "SELECT holder FROM leases WHERE expires > extract(epoch FROM clock_timestamp())"


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def known_revisions() -> frozenset[str]:
    """Return the formats of the database that this version of Graft reads, `0001` and so on."""
    scripts = ScriptDirectory.from_config(_alembic_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def check_revision(connection: Connection, place: Database) -> None:
    """Check that this version of Graft reads the format of a database.

    Raises:
        FormatTooNew: if a newer version of Graft wrote it.
    """
    revision = _revision(connection)
    if revision is not None and revision not in known_revisions():
        raise FormatTooNew(
            f"The engine's database {place.name} has the format {revision}; this version of Graft reads up "
            f"to {max(known_revisions())}. Upgrade Graft, restore a backup from before the upgrade, or move "
            "the database away, start the engine and run `graft engine rebuild`.",
            record="engine's database",
            format=revision,
        )


def upgrade_tables(connection: Connection, place: Database) -> None:
    """Make the tables, or give them their newest format.

    Raises:
        StackError: while an engine of an older version of Graft uses them.
    """
    if place.is_shared:  # another engine may be upgrading it now: that takes as long as it takes
        for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
        _check_unused(connection, place)
    config = _alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_unused(connection: Connection, place: Database) -> None:
    if _revision(connection) in (None, max(known_revisions())):
        return
    if holder := connection.scalar(text(LEASE)):
        raise StackError(
            f"The engine {holder} of an older Graft uses the database {place.name}, which this one has "
            "to upgrade. Stop the older engines; this one can start as soon as none has the lease, after "
            "10 s at the latest."
        )
