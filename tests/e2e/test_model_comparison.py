"""Models compared by a DAG: each backbone is a mapped task, and the command line finds the same jobs."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from pipeline.artifacts.workspace import Workspace
from tests.e2e.conftest import ClassifierDag, Stack, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
NAME = "compared"


def test_the_dag_finds_the_choice_and_the_command_line_the_same_jobs(stack: Stack) -> None:
    source = {"type": "sample", "classes": ["brick", "grass", "gravel"]}
    dag = ClassifierDag(stack, {"name": NAME, "dataset": {"source": source}, "model": {"epochs": 5}})
    assert stack.graft_json("run", NAME)["state"] == "success"
    conf = {"classifier": NAME, "backbones": ["efficientnet_lite0"], "parameters": {"model.epochs": [5, 10]}}
    run = dag.call("POST", "dags/model_comparison/dagRuns", {"logical_date": None, "conf": conf})

    def ended() -> str | None:
        state = stack.airflow().run_state("model_comparison", run["dag_run_id"])
        return state if state in ("success", "failed") else None

    assert wait_until(ended, seconds=600, what="end of the comparison") == "success"
    page = Workspace(stack.storage, "gs://graft").classifier(NAME).comparison_page
    assert stack.storage.exists(page)
    told = dag.call("GET", f"dags/model_comparison/dagRuns/{quote(run['dag_run_id'], safe='')}")["note"]
    found = stack.graft_json(
        "compare", NAME, "--backbone", "efficientnet_lite0", "--param", "model.epochs=5,10"
    )
    assert found["recommendation"] in told
    assert len(found["options"]) == 3, "dense of 5 and 10 epochs, and logistic, which has no epochs"
    assert len({option["job"] for option in found["options"]}) == 1
