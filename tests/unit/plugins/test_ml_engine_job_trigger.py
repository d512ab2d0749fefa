from __future__ import annotations

import asyncio
import importlib
import json
import time
from typing import Any

import pytest

from pipeline.errors import PlatformUnavailable
from tests.fakes.ml_engine import FakeMLEngine

KWARGS = {"job_ids": ["a", "b"], "ml_engine_conn_id": "c", "poll_seconds": 0.01}


def make_trigger(deadline: float | None = None, **changes: Any) -> Any:
    from graft.triggers.ml_engine_job import MLEngineJobTrigger

    deadline = time.time() + 5 if deadline is None else deadline
    return MLEngineJobTrigger(**{**KWARGS, "deadline": deadline, **changes})


def events_of(trigger: Any) -> list[dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(asyncio.wait_for(collect(), timeout=5))


def add_jobs(engine: FakeMLEngine, a: str, b: str) -> None:
    engine.jobs = {"a": {"jobId": "a", "state": a}, "b": {"jobId": "b", "state": b}}


def test_serialises_its_exact_path_and_arguments() -> None:
    path, kwargs = make_trigger(deadline=123.0).serialize()
    assert path == "graft.triggers.ml_engine_job.MLEngineJobTrigger"
    assert kwargs == {**KWARGS, "deadline": 123.0, "project": None, "cancel_on_kill": True}
    json.dumps(kwargs)
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**kwargs)
    assert again.serialize() == (path, kwargs)


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_fires_once_when_every_job_has_ended(engine: FakeMLEngine, state: str) -> None:
    add_jobs(engine, "SUCCEEDED", state)
    assert events_of(make_trigger()) == [
        {"status": "ended", "job_ids": ["a", "b"], "states": {"a": "SUCCEEDED", "b": state}}
    ]


@pytest.mark.parametrize("state", ["QUEUED", "PREPARING", "RUNNING", "CANCELLING"])
def test_does_not_fire_while_a_job_runs(engine: FakeMLEngine, state: str) -> None:
    add_jobs(engine, "SUCCEEDED", state)

    async def wait_a_little() -> Any:
        stream = make_trigger().run()
        try:
            return await asyncio.wait_for(anext(stream), timeout=0.1)
        finally:
            await stream.aclose()

    with pytest.raises(TimeoutError):
        asyncio.run(wait_a_little())


def test_fires_after_the_last_job_has_ended(engine: FakeMLEngine) -> None:
    add_jobs(engine, "SUCCEEDED", "QUEUED")
    states, looks = iter(["QUEUED", "RUNNING", "RUNNING", "SUCCEEDED"]), []

    def look(job_id: str) -> dict[str, Any]:
        looks.append(job_id)
        return {"jobId": job_id, "state": "SUCCEEDED" if job_id == "a" else next(states)}

    engine.get_job = look  # type: ignore[method-assign]
    assert events_of(make_trigger())[0]["status"] == "ended"
    assert looks == ["a", "b", "b", "b", "b"], "a job that has ended is not asked again"


def test_outlasts_an_engine_that_is_away(engine: FakeMLEngine) -> None:
    add_jobs(engine, "SUCCEEDED", "SUCCEEDED")
    engine.silent_calls = 5
    assert events_of(make_trigger())[0]["status"] == "ended"
    assert engine.silent_calls == 0


def test_an_engine_that_stays_away_ends_at_the_deadline(engine: FakeMLEngine) -> None:
    engine.silent_calls = 10**6
    event = events_of(make_trigger(deadline=time.time() + 0.05))[0]
    assert (event["status"], event["states"]) == ("deadline", {})


def test_jobs_that_run_too_long_end_at_the_deadline(engine: FakeMLEngine) -> None:
    add_jobs(engine, "SUCCEEDED", "RUNNING")
    event = events_of(make_trigger(deadline=time.time() - 1))[0]
    assert event["status"] == "deadline"
    assert event["states"] == {"a": "SUCCEEDED", "b": "RUNNING"}


def test_a_job_that_does_not_exist_is_an_error_event(engine: FakeMLEngine) -> None:
    event = events_of(make_trigger())[0]
    assert event["status"] == "error"
    assert "no job a" in event["message"]
    assert event["is_final"] is True


def test_a_missing_connection_is_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.hooks.ml_engine import MLEngineHook

    async def refuse(self: object, conn_id: str = "") -> Any:
        raise LookupError("no connection c")

    monkeypatch.setattr(MLEngineHook, "get_async_conn", refuse)
    event = events_of(make_trigger())[0]
    assert event["message"] == "LookupError: no connection c"
    assert event["is_final"] is False, "Airflow itself may have been too slow"


def test_kill_cancels_every_job_even_if_one_cannot_be(engine: FakeMLEngine) -> None:
    def cancel(job_id: str) -> None:
        engine.cancelled.append(job_id)
        if job_id == "a":
            raise PlatformUnavailable("busy")

    engine.cancel_job = cancel  # type: ignore[method-assign]
    asyncio.run(make_trigger().on_kill())
    assert engine.cancelled == ["a", "b"]


def test_kill_leaves_the_jobs_alone_where_the_operator_says_so(engine: FakeMLEngine) -> None:
    asyncio.run(make_trigger(cancel_on_kill=False).on_kill())
    assert engine.cancelled == []


def test_connection_is_found_from_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.hooks.ml_engine import MLEngineHook

    connection = {"conn_type": "ml_engine", "host": "http://127.0.0.1:9", "extra": {"project": "p7"}}
    monkeypatch.setenv("AIRFLOW_CONN_MY_ENGINE", json.dumps({**connection, "password": "secret"}))
    engine = asyncio.run(MLEngineHook("my_engine").get_async_conn())
    assert (engine.endpoint, engine.project) == ("http://127.0.0.1:9", "p7")
    assert MLEngineHook("my_engine").get_conn().project == "p7"
