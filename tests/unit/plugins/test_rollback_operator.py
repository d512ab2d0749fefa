from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine


@pytest.fixture
def roll_back(
    storage: Storage,
    engine: FakeMLEngine,
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Run the task on a model whose v_2 has replaced v_1."""
    from graft.hooks.airflow_api import AirflowApiHook
    from graft.operators.rollback import RollBackModelOperator

    monkeypatch.setattr(AirflowApiHook, "write_run_note", lambda self, dag, run, note: notes.append(note))
    notes: list[str] = []
    engine.ensure_model("m")
    for version in ("v_1", "v_2"):
        engine.create_version("m", {"name": version})
        event = HistoryEvent(event=EventType.PROMOTED, version=version, run_id=version)
        record_event(Workspace(storage, "gs://graft"), "m", event)
    engine.set_default("m", "v_2")

    def run(**given: Any) -> Any:
        arguments = {"model": "m", "reason": "it mistakes snow", **given}
        context = make_context()
        context["dag_run"] = SimpleNamespace(conf={}, triggering_user_name="ada")
        return RollBackModelOperator(task_id="roll_back", **arguments).execute(context) | {"notes": notes}

    return run


def test_rolls_back_once_however_often_it_is_tried(
    roll_back: Callable[..., Any], storage: Storage, engine: FakeMLEngine
) -> None:
    first, second = roll_back(to=""), roll_back(to="")
    assert first == second
    assert (first["version"], first["previous"], first["by"]) == ("v_1", "v_2", "ada")
    assert engine.models["m"]["defaultVersion"]["name"].endswith("v_1")
    events = read_history(Workspace(storage, "gs://graft"), "m")
    assert [event.event for event in events][2:] == ["rolled_back"]
    assert first["notes"][0] == "**`m` serves `v_1`**, no longer `v_2`.\n\nada: it mistakes snow"


def test_refusal_fails_the_task_for_good(roll_back: Callable[..., Any]) -> None:
    with pytest.raises(AirflowFailException, match="RollbackRefused: m has no READY version v_9"):
        roll_back(to="v_9")


def test_another_person_can_be_named(roll_back: Callable[..., Any]) -> None:
    done = roll_back(by="Grace")
    assert (done["by"], done["reason"]) == ("ada", "it mistakes snow (named: Grace)")
