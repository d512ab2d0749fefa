"""The engine's state on a PostgreSQL server that the tests start; `make test-team` has more."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text, update

from pipeline.engine.control import database_problem
from pipeline.engine.database import PostgresServer, SqliteFile, read_database
from pipeline.engine.lease import Lease
from pipeline.engine.store import Base, JobRow, LeaseRow, ModelRow, Store, now
from pipeline.errors import ConfigError, DatabaseUnavailable, FormatTooNew
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts
from tests.fakes.postgres import running


@pytest.fixture(scope="module")
def postgres():
    with running() as server:
        yield server


@pytest.fixture
def database(postgres):
    return postgres.new_database()


@pytest.fixture
def store(database):
    store = Store(database)
    yield store
    store.close()


def add_model(store: Store, name: str) -> None:
    with store.begin() as session:
        session.add(ModelRow(name=name, body={"z": 1, "a": [2]}, default_version=None, create_time=now()))


def names(store: Store) -> list[str]:
    with store.begin() as session:
        return list(session.scalars(select(ModelRow.name).order_by(ModelRow.seq)))


def test_the_migrations_make_exactly_the_tables_of_the_models(store):
    with store.database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_what_was_written_is_there_when_it_is_opened_again_and_a_failed_block_leaves_nothing(store, database):
    add_model(store, "a")

    def fail() -> None:
        with store.begin() as session:
            session.add(ModelRow(name="b", body={}, default_version=None, create_time=now()))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    again = Store(database)
    assert names(again) == ["a"]
    again.close()


def test_a_message_with_a_nul_is_kept_and_one_in_a_name_finds_nothing(store):
    with store.begin() as session:
        session.add(
            JobRow(
                job_id="j",
                kind="k",
                input={"text": "a\0b"},
                labels={},
                state="FAILED",
                create_time=now(),
                error_message="a\0b",
                priority=0,
            )
        )
    with store.begin() as session:
        job = session.scalars(select(JobRow)).one()
        assert (job.error_message, job.input) == ("a\ufffdb", {"text": "a\0b"})
        assert session.scalar(select(ModelRow).filter_by(name="a\0b")) is None


def test_a_database_of_a_newer_graft_is_refused_by_name(store, database):
    with store.database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FormatTooNew, match=r"127.0.0.1:\d+/graft_\d+ has the format 9999"):
        Store(database)


def test_a_renewal_after_the_end_does_not_take_the_lease_again(store, tmp_path):
    lease = Lease(store, tmp_path)
    assert lease.take()
    asyncio.run(lease.end())
    assert not lease.renew()
    assert Lease(store, tmp_path / "second").take()


def test_an_engine_that_stood_still_changes_nothing_after_another_took_its_lease(store, tmp_path):
    first, second = Lease(store, tmp_path / "first"), Lease(store, tmp_path / "second")
    assert first.take()
    stale = store.fenced(first)
    add_model(stale, "before")
    with store.begin() as session:
        session.execute(update(LeaseRow).values(expires=0.0))
    assert second.take()
    with pytest.raises(DatabaseUnavailable, match=r"The engine .*/second:\S+ uses the database"):
        add_model(stale, "after")
    assert not first.renew()
    assert names(store) == ["before"]


def test_a_server_that_is_away_fails_at_once_and_serves_again_when_it_is_back(postgres, store):
    add_model(store, "a")
    postgres.stop()
    try:
        with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
            names(store)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
                names(store)
        assert time.monotonic() - began < 5
    finally:
        postgres.start()

    def read() -> list[str]:
        try:
            return names(store)
        except DatabaseUnavailable:
            return []

    assert wait_for(read, seconds=60) == ["a"]


def test_an_engine_starts_stops_and_starts_again_on_a_server(database, tmp_path):
    async def live() -> None:
        engine = FakeParts(tmp_path, database=database).engine()
        await engine.start()
        await engine.stop()

    asyncio.run(live())
    asyncio.run(live())  # at once: the first gave its lease up
    assert not (tmp_path / "engine" / "engine.db").exists()


def test_the_password_is_read_from_its_file_and_shown_nowhere(postgres, tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    file.chmod(stat.S_IRUSR)
    database = PostgresServer(url=postgres.url("postgres"), password_file=file)
    connections = database.connect()
    with connections.connect():
        assert "s3cret" not in repr(connections) + repr(database) + database.name
    connections.dispose()
    missing = PostgresServer(url=postgres.url("postgres"), password_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="GRAFT_DATABASE_PASSWORD_FILE: .*none cannot be read"):
        missing.connect().connect()


def test_a_server_without_the_database_is_a_problem_that_is_told(postgres, tmp_path):
    url = postgres.url("nothing").render_as_string()
    assert 'database "nothing" does not exist' in (database_problem(tmp_path, url, None) or "")


def test_without_a_url_the_database_is_a_file_of_the_home(tmp_path):
    assert read_database(tmp_path, "", None) == SqliteFile(path=tmp_path / "engine" / "engine.db")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u@h/d", "expected postgresql"),
        ("no url", "expected postgresql"),
        ("postgresql://u@h", "expected postgresql"),
        ("postgresql://u:hidden@h/d", "GRAFT_DATABASE_PASSWORD_FILE"),
        ("postgresql+psycopg://u@h/d?password=hidden", "GRAFT_DATABASE_PASSWORD_FILE"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_shown(url, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        read_database(Path("home"), url, None)
    assert "hidden" not in str(caught.value)


def test_a_server_elsewhere_is_spoken_to_in_tls_unless_the_address_says_otherwise():
    def mode(url: str) -> object:
        database = read_database(Path("home"), url, None)
        assert isinstance(database, PostgresServer)
        return database._connect_arguments().get("sslmode")

    assert mode("postgresql://u@db.example.org/d") == "require"
    assert mode("postgresql://u@db.example.org/d?sslmode=verify-full") is None
    assert mode("postgresql://u@127.0.0.1/d") is None
