from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.options import HEADS

FOLDER = Path(__file__).resolve().parents[2] / "dags"


@pytest.fixture(scope="module")
def dag() -> Any:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=FOLDER / "model_comparison.py", bundle_path=FOLDER, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags["model_comparison"]


def test_runs_when_a_person_says_so_and_asks_for_the_classifier(dag: Any) -> None:
    assert dag.schedule is None
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "plan": ["compare"],
        "compare": ["recommend"],
        "recommend": [],
    }
    assert dag.get_task("compare").is_mapped
    assert list(dag.params) == ["classifier", "backbones", "heads", "parameters", "write"]
    assert all(dag.params.get_param(name).description for name in dag.params)
    with pytest.raises(Exception, match="No value passed"):
        dag.params.validate()
    assert dag.params.get_param("heads").schema["examples"] == list(HEADS)
    assert "model_comparison/dagRuns" in dag.doc_md


def test_the_plan_takes_what_the_form_says(dag: Any) -> None:
    task = dag.get_task("plan").prepare_for_execution()
    chosen = {"classifier": "animals", "backbones": ["efficientnet_lite2"], "heads": None}
    task.render_template_fields({"params": {**chosen, "parameters": {"model.epochs": [10, 40]}}})
    assert (task.classifier, task.backbones, task.heads) == ("animals", ["efficientnet_lite2"], None)
    assert task.parameters == {"model.epochs": [10, 40]}


def test_the_choice_is_written_only_if_the_form_says_so(dag: Any) -> None:
    assert dag.params["write"] is False
    task = dag.get_task("recommend")
    assert task.render_template(task.write, {"params": {"write": True}}, task.get_template_env(dag)) is True
