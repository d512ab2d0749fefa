from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.errors import StackError
from pipeline.stack.airflow_database import ensure_database
from pipeline.stack.databases import find_damage
from pipeline.stack.environment import build_components, database_path
from pipeline.stack.state import StackState, ensure_secrets


def make_database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE numbers (number)")
        database.executemany("INSERT INTO numbers VALUES (?)", [(f"{n:0100}",) for n in range(1000)])
        database.commit()


def test_a_whole_database_a_locked_one_and_none_have_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    assert find_damage(path) is None
    make_database(path)
    assert find_damage(path) is None
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert find_damage(path) is None


@pytest.mark.parametrize("damage", [lambda data: bytes(len(data)), lambda data: data[: len(data) // 2 + 9]])
def test_airflow_is_not_migrated_on_a_damaged_database(tmp_path: Path, damage: object) -> None:
    settings = Settings(home=tmp_path)
    path = database_path(settings)
    make_database(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    state = StackState(engine_port=1, airflow_port=2)
    component = build_components(settings, state, ensure_secrets(tmp_path))[1]
    with pytest.raises(StackError, match=r"airflow.db is damaged .*graft restore.*graft up"):
        ensure_database(settings, state, component, lambda _: None)
