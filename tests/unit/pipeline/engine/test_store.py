from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from pipeline.engine.store import Base, ModelRow, Store, etag, now
from pipeline.errors import StackError


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
