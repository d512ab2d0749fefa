from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import StackError
from pipeline.notebook import connect
from pipeline.stack.state import StackState, ensure_secrets, save_state


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "GRAFT_ML_ENGINE_URL",
        "GRAFT_ML_ENGINE_TOKEN",
        "GRAFT_BUCKETS",
        "GRAFT_BUCKET",
        "GRAFT_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return tmp_path


def test_the_stack_of_the_home_is_found(home: Path) -> None:
    save_state(home, StackState(engine_port=4711))
    token = ensure_secrets(home).engine_token
    found = connect()
    assert found.engine.endpoint == "http://127.0.0.1:4711"  # type: ignore[attr-defined]
    assert (found.engine.project, found.workspace.uri) == ("local", "gs://graft")
    assert token not in repr(found)


def test_settings_come_before_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_ML_ENGINE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GRAFT_ML_ENGINE_TOKEN", "secret")
    found = connect(project="p", bucket="b")
    assert found.engine.endpoint == "http://127.0.0.1:1"  # type: ignore[attr-defined]
    assert (found.engine.project, found.workspace.uri) == ("p", "gs://b")


def test_no_engine_is_an_error_with_the_three_ways_to_name_one(home: Path) -> None:
    with pytest.raises(StackError, match=r"`graft up`.*GRAFT_HOME.*GRAFT_ML_ENGINE_URL"):
        connect()
