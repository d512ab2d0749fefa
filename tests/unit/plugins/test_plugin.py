"""Airflow finds the plugin once: by the entry point where Graft is installed, else by the plugins folder."""

from __future__ import annotations

import importlib.metadata
import runpy
import sys
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from airflow.listeners.listener import get_listener_manager
from airflow.plugins_manager import AirflowPlugin, get_plugin_info
from graft.plugin import GraftPlugin

FILE = Path(__file__).resolve().parents[3] / "plugins" / "graft_plugin.py"
ENTRY_POINT = "[airflow.plugins]\ngraft = graft.plugin:GraftPlugin\n"
SCRIPTS = "[console_scripts]\ngraft = pipeline.cli:main\n"


@pytest.mark.parametrize(
    ("entry_points", "named"),
    [(None, [GraftPlugin]), (SCRIPTS, [GraftPlugin]), (SCRIPTS + ENTRY_POINT, [])],
    ids=["not installed", "installed by an older version", "installed"],
)
def test_the_file_names_the_plugin_where_no_entry_point_does(
    entry_points: str | None, named: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "entry_points.txt").write_text(entry_points or "")
    installed = [Distribution.at(tmp_path)] if entry_points is not None else []
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: installed)
    values = runpy.run_path(str(FILE)).values()
    assert [each for each in values if isinstance(each, type) and issubclass(each, AirflowPlugin)] == named


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of Airflow's own loader
def test_airflow_knows_it_once() -> None:
    assert [each["name"] for each in get_plugin_info()].count("graft") == 1


def test_processes_that_fork_tasks_load_first_what_a_dag_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graft.training_dag", None)  # so that its import is seen
    with pytest.raises(ImportError, match="graft.training_dag"):
        get_listener_manager().hook.on_starting(component=object())
