"""Models compared by a DAG: each backbone is a mapped task, and the command line finds the same jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from pipeline.artifacts.workspace import Workspace
from pipeline.config import ModelConfig
from pipeline.submission.backbone import stage_backbone
from tests.e2e.conftest import ClassifierDag, Stack, wait_until
from tests.fakes.extras import installed_extras

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
NAME = "compared"
BACKBONES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
PAIRS = {f"{backbone} {head}" for backbone in BACKBONES for head in ("dense", "logistic")}


def compare(dag: ClassifierDag, conf: dict[str, Any]) -> dict[str, Any]:
    """Run the DAG; return its run when it has ended."""
    body = {"logical_date": None, "conf": {"classifier": NAME, **conf}}
    run_id = dag.call("POST", "dags/model_comparison/dagRuns", body)["dag_run_id"]

    def ended() -> str | None:
        state = dag.stack.airflow().run_state("model_comparison", run_id)
        return state if state in ("success", "failed") else None

    assert wait_until(ended, seconds=600, what="end of the comparison") == "success"
    run: dict[str, Any] = dag.call("GET", f"dags/model_comparison/dagRuns/{quote(run_id, safe='')}")
    return run


def test_backbones_are_mapped_tasks_and_the_choice_becomes_a_served_version(
    stack: Stack, tmp_path: Path
) -> None:
    workspace = Workspace(stack.storage, "gs://graft")
    with installed_extras(tmp_path / "extras", *BACKBONES[1:]):
        for backbone in BACKBONES[1:]:
            stage_backbone(workspace, ModelConfig(backbone=backbone))
    source = {"type": "sample", "classes": ["brick", "grass", "gravel"]}
    model = {"epochs": 1, "head": {"units": 4}}
    value = {"name": NAME, "dataset": {"source": source}, "model": model, "gate": {"min_accuracy": 0.1}}
    dag = ClassifierDag(stack, value)
    assert stack.graft_json("run", NAME)["state"] == "success"
    heads = ["dense", "logistic"]
    run = compare(dag, {"backbones": list(BACKBONES), "heads": heads, "write": True})
    tasks = stack.airflow().task_instances("model_comparison", run["dag_run_id"])
    assert [task.state for task in tasks if task.task_id == "compare"] == ["success"] * 3

    written = yaml.safe_load((stack.classifiers / f"{NAME}.yaml").read_text())
    folder = workspace.classifier(NAME)
    section = yaml.safe_load(stack.storage.read_bytes(folder.comparison_yaml))
    assert written["model"] == section["model"] != value["model"], "four units and one epoch are not enough"
    page = stack.storage.read_bytes(folder.comparison_page).decode()
    assert all(f'<th scope="row">{pair}' in page for pair in PAIRS)

    result = stack.graft_json("run", NAME)
    assert result["state"] == "success", result
    assert result["evaluation"]["accuracy"] > 0.9


def test_the_command_line_finds_the_jobs_of_the_dag(stack: Stack) -> None:
    source = {"type": "sample", "classes": ["brick", "grass", "gravel"]}
    name = f"{NAME}_again"
    dag = ClassifierDag(stack, {"name": name, "dataset": {"source": source}, "model": {"epochs": 5}})
    assert stack.graft_json("run", name)["state"] == "success"
    conf = {"backbones": ["efficientnet_lite0"], "parameters": {"model.epochs": [5, 10]}}
    note = compare(dag, {**conf, "classifier": name})["note"]
    found = stack.graft_json(
        "compare", name, "--backbone", "efficientnet_lite0", "--param", "model.epochs=5,10"
    )
    assert found["recommendation"] in note
    assert len(found["options"]) == 3, "dense of 5 and 10 epochs, and logistic, which has no epochs"
    assert len({option["job"] for option in found["options"]}) == 1
