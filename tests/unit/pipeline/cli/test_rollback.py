from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.ml_engine.protocol import default_version
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

WORKSPACE = "gs://graft"


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMLEngine:
    """An engine and a history in which v_2 has replaced v_1."""
    from pipeline.cli import rollback

    engine = FakeMLEngine(answer=lambda version, instance: {"outputs": [1.0]})
    status = SimpleNamespace(airflow=SimpleNamespace(username="admin"))
    monkeypatch.setattr(rollback, "require_stack", lambda: status)
    monkeypatch.setattr(rollback, "connect_engine", lambda status: engine)
    engine.ensure_model("m")
    for version, previous in (("v_1", None), ("v_2", "v_1")):
        engine.create_version("m", {"name": version})
        event = HistoryEvent(
            event=EventType.PROMOTED,
            version=version,
            previous=previous,
            run_id=f"r of {version}",
            decided_by="gate",
        )
        record_event(Workspace(Storage.from_environment(), WORKSPACE), "m", event)
    engine.set_default("m", "v_2")
    return engine


def test_rollback_takes_effect_and_says_what_it_did(engine: FakeMLEngine, graft: Callable[..., Any]) -> None:
    done = graft("rollback", "m", "--reason", "it mistakes snow", "--by", "Ada", "--json")
    assert done.code == 0
    assert set(done.document) == {"model", "version", "previous", "by", "reason", "run_id", "at"}
    assert (done.document["version"], done.document["previous"]) == ("v_1", "v_2")
    assert (done.document["by"], done.document["reason"]) == ("admin", "it mistakes snow (named: Ada)")
    assert default_version(engine.get_model("m")) == "v_1"
    text = graft("rollback", "m", "--to", "v_2", "--reason", "it was the camera").stdout
    assert text == "m serves v_2, no longer v_1.\n"


def test_rollback_without_a_reason_is_a_usage_error(engine: FakeMLEngine, graft: Callable[..., Any]) -> None:
    assert graft("rollback", "m").code == 2
    assert graft("rollback", "m", "--reason", " ").code == 2
    assert default_version(engine.get_model("m")) == "v_2"


def test_rollback_to_nothing_is_an_error_that_says_what_to_do(
    engine: FakeMLEngine, graft: Callable[..., Any]
) -> None:
    refused = graft("rollback", "m", "--to", "v_9", "--reason", "x", "--json")
    assert (refused.code, refused.document["error"]["type"]) == (1, "RollbackRefused")
    assert "`graft versions m`" in refused.stderr


def test_history_tells_what_served_when_and_who_said_so(
    engine: FakeMLEngine, graft: Callable[..., Any]
) -> None:
    graft("rollback", "m", "--reason", "it mistakes snow", "--by", "Ada")
    found = graft("history", "m", "--json").document
    assert [event["event"] for event in found["events"]] == ["promoted", "promoted", "rolled_back"]
    assert [period["version"] for period in found["served"]] == ["v_1", "v_2", "v_1"]
    lines = graft("history", "m").stdout.splitlines()
    assert "it mistakes snow" in lines[1]
    assert lines[-3].split()[0] == "v_1"
    assert lines[-3].endswith("now")


def test_history_names_the_default_rules_that_were_off(
    engine: FakeMLEngine, graft: Callable[..., Any]
) -> None:
    event = HistoryEvent(
        event=EventType.PROMOTED, version="v_3", previous="v_2", run_id="r", switched_off=("ratchet",)
    )
    record_event(Workspace(Storage.from_environment(), WORKSPACE), "m", event)
    assert graft("history", "m", "--json").document["events"][-1]["switched_off"] == ["ratchet"]
    assert "switched off: ratchet" in graft("history", "m").stdout


def test_history_of_nothing_says_what_to_do(engine: FakeMLEngine, graft: Callable[..., Any]) -> None:
    assert "`graft run other`" in graft("history", "other").stdout
