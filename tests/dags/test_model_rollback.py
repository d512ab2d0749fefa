from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=FOLDER / "model_rollback.py", bundle_path=FOLDER, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags["model_rollback"]


def test_runs_when_a_person_says_so_and_asks_for_model_and_reason(dag: Any) -> None:
    assert (dag.schedule, [task.task_id for task in dag.tasks]) == (None, ["roll_back"])
    assert list(dag.params) == ["model", "to", "reason"]
    assert all(dag.params.get_param(name).description for name in dag.params)
    with pytest.raises(Exception, match="No value passed"):
        dag.params.validate()
    assert "model_rollback/dagRuns" in dag.doc_md


def test_the_task_takes_what_the_form_says(dag: Any) -> None:
    task = dag.get_task("roll_back")
    task = task.prepare_for_execution()
    task.render_template_fields({"params": {"model": "animals", "to": None, "reason": "{{ nothing }}"}})
    assert (task.model, task.to, task.reason) == ("animals", "", "{{ nothing }}")
