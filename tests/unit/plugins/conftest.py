from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tests.airflow_environment  # noqa: F401  before any import of Airflow
from pipeline.storage import Storage
from tests.fakes.airflow_pages import Pages
from tests.fakes.ml_engine import FakeMLEngine


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    monkeypatch.delenv("GRAFT_BUCKETS", raising=False)
    return Storage.from_environment()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeMLEngine:
    """The engine that every hook gives."""
    from graft.hooks.ml_engine import MLEngineHook

    engine = FakeMLEngine()

    async def get_async_conn(self: object) -> FakeMLEngine:
        return engine

    monkeypatch.setattr(MLEngineHook, "get_conn", lambda self: engine)
    monkeypatch.setattr(MLEngineHook, "get_async_conn", get_async_conn)
    return engine


@pytest.fixture
def make_context() -> Callable[..., Any]:
    def make(
        conf: dict[str, Any] | None = None,
        *,
        task_id: str = "task",
        map_index: int = -1,
        run_id: str = "manual__1",
    ) -> Any:
        pushed: dict[str, Any] = {}
        ti = SimpleNamespace(
            dag_id="m",
            run_id=run_id,
            task_id=task_id,
            map_index=map_index,
            try_number=1,
            max_tries=2,
            pushed=pushed,
            xcom_push=lambda key, value: pushed.__setitem__(key, json.loads(json.dumps(value))),
        )
        return {"ti": ti, "dag_run": SimpleNamespace(conf=conf or {})}

    return make


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    made = Pages(tmp_path, monkeypatch)
    with made.client:
        yield made
