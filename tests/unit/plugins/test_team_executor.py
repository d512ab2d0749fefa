from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow.executors.base_executor import BaseExecutor

from pipeline.stack.machines import Machine, write_machines

PROVIDER = "airflow.providers.celery.executors.celery_executor"


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The executor on Airflow's base class: Celery is of the extra `team`."""
    module = ModuleType(PROVIDER)
    module.CeleryExecutor = BaseExecutor  # type: ignore[attr-defined]
    for name in ("airflow.providers.celery", "airflow.providers.celery.executors"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, PROVIDER, module)
    monkeypatch.delitem(sys.modules, "graft.team_executor", raising=False)
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return importlib.import_module("graft.team_executor").TeamExecutor(parallelism=6)


def test_slots_follow_the_machines_that_have_joined(executor: Any, tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    write_machines(tmp_path, 2)
    assert executor.slots_available == 2
    write_machines(tmp_path, 2, (Machine(name="a", slots=3, since=0.0),))
    assert executor.slots_available == 5
    executor.running.update({"one", "two"})
    assert executor.slots_available == 3
    write_machines(tmp_path, 2)
    assert executor.slots_available == 0


def test_slots_never_exceed_those_of_the_configuration(executor: Any, tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    write_machines(tmp_path, 100)
    assert executor.parallelism == 6


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"slots": 0}'])
def test_one_task_waits_where_no_slot_is_known(executor: Any, tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "servers").mkdir()
        (tmp_path / "servers" / "machines.json").write_text(text)
    assert executor.parallelism == 1
