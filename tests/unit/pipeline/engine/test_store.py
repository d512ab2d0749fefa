from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from pipeline.engine.models.registry import check_rows
from pipeline.engine.store import Base, ModelRow, Store, VersionRow, etag, now
from pipeline.errors import DatabaseUnavailable, StackError


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "engine" / "engine.db")
    yield store
    store.close()


def test_the_migrations_make_exactly_the_tables_of_the_models(store):
    with store.database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def zero(data: bytes) -> bytes:
    return bytes(len(data))


def truncate(data: bytes) -> bytes:
    return data[: len(data) // 2 + 100]


def flip(data: bytes) -> bytes:
    return data[:100] + bytes(byte ^ 0x55 for byte in data[100:8192]) + data[8192:]


@pytest.mark.parametrize("damage", [zero, truncate, flip])
def test_a_damaged_database_is_refused_with_the_remedy(tmp_path, damage):
    path = tmp_path / "engine.db"
    Store(path).close()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StackError, match=r"engine.db is damaged .* Move it.* run `graft engine rebuild`"):
        Store(path)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE models SET body = '{'", "Expecting"),
        ("UPDATE versions SET state = 'REABY'", "version a/v1 cannot be read"),
        ("UPDATE versions SET body = '{}'", "version a/v1 cannot be read"),
        ("UPDATE versions SET name = CAST(x'ff' AS TEXT)", "UTF-8"),
    ],
)
def test_damage_within_a_value_is_refused_with_the_remedy(tmp_path, statement, reason):
    path = tmp_path / "engine.db"
    store = Store(path)
    with store.begin() as session:
        session.add(ModelRow(name="a", body={}, default_version="v1", create_time=now()))
        body = {"name": "v1", "deploymentUri": "gs://b/m"}
        session.add(VersionRow(model="a", name="v1", body=body, state="READY", create_time=now()))
    check_rows(store)
    store.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()
    with pytest.raises(StackError, match=rf"damaged .*{reason}.*`graft engine rebuild`"):
        check_rows(Store(path))


def test_a_database_that_is_damaged_while_it_is_used_is_a_503_with_the_remedy(store, tmp_path):
    with store.begin() as session:
        session.add(ModelRow(name="a", body={}, default_version=None, create_time=now()))
    store.close()
    (tmp_path / "engine" / "engine.db").write_bytes(b"no database" * 1000)
    with (
        pytest.raises(DatabaseUnavailable, match=r"is damaged .* `graft engine rebuild`"),
        store.begin() as session,
    ):
        session.query(ModelRow).all()


def test_changes_of_models_and_versions_are_told_after_they_are_committed(store):
    told = []
    store.watch_models(told.append)

    def fail():
        with store.begin() as session:
            session.add(ModelRow(name="b", body={}, default_version=None, create_time=now()))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert told == []
    with store.begin() as session:
        session.add(ModelRow(name="a", body={}, default_version=None, create_time=now()))
    with store.begin() as session:
        session.query(ModelRow).one().default_version = "v1"
    assert told == [{"a"}, {"a"}]


def test_the_database_is_in_wal_mode_and_the_event_loop_hardly_waits_for_a_lock(store):
    with store.database.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 20


def test_what_was_written_is_there_when_it_is_opened_again_and_a_failed_block_leaves_nothing(store, tmp_path):
    with store.begin() as session:
        session.add(ModelRow(name="a", body={"z": 1, "a": 2}, default_version=None, create_time=now()))

    def fail():
        with store.begin() as session:
            session.add(ModelRow(name="b", body={}, default_version=None, create_time=now()))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    again = Store(tmp_path / "engine" / "engine.db")
    with again.begin() as session:
        rows = session.query(ModelRow).all()
    again.close()
    assert [(row.name, list(row.body)) for row in rows] == [("a", ["z", "a"])]


def test_an_etag_changes_with_the_resource_only():
    assert etag({"a": 1, "b": 2}) == etag({"b": 2, "a": 1})
    assert etag({"a": 1}) != etag({"a": 2})
