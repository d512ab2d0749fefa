"""DAGs written by hand run here, also in the shape of Google's operators; so does the connection's form."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.airflow_api import TaskInstance
from pipeline.config import PROJECT_ROOT
from pipeline.ml_engine.protocol import default_version
from pipeline.ml_engine.rest import RestMLEngine
from tests.e2e.conftest import Stack, wait_until

EXAMPLES = PROJECT_ROOT / "docs" / "examples"
MOMENT = "2026-02-03T04:05:06Z"
STAMP = "20260203T040506"


@pytest.fixture
def staged(stack: Stack, tmp_path: Path) -> Stack:
    """The stack with what the DAGs read in its bucket."""
    trainer = shutil.copytree(EXAMPLES / "trainer", tmp_path / "trainer")
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=trainer, check=True, capture_output=True, timeout=120)
    package = (tmp_path / "trainer-0.1.tar.gz").read_bytes()
    stack.storage.write_bytes("gs://graft/examples/trainer-0.1.tar.gz", package)
    points = [json.dumps({"key": float(x), "x": float(x)}) for x in range(25)]
    stack.storage.write_bytes("gs://graft/examples/points.json", "\n".join(points).encode())
    return stack


def run(stack: Stack, dag_id: str) -> str:
    api = stack.airflow()
    wait_until(lambda: api.last_parsed(dag_id), seconds=120, what=f"DAG {dag_id}")
    body = {"logical_date": MOMENT, "conf": {}}
    run_id = str(api._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])
    wait_until(lambda: api.run_state(dag_id, run_id) in ("success", "failed"), seconds=240, what="end of run")
    states = {task.task_id: task.state for task in api.task_instances(dag_id, run_id)}
    assert set(states.values()) == {"success"}, states
    return run_id


def test_dags_of_the_old_operators_train_deploy_evaluate_and_clean_up(staged: Stack) -> None:
    run_id = run(staged, "mlengine_train_and_deploy")
    status = staged.graft_json("status")["engine"]
    engine = RestMLEngine(status["url"], status["project"], status["token"])
    try:
        assert default_version(engine.get_model("example_line")) == f"v_{STAMP}"
        job = engine.get_job(f"example_line_{STAMP}")
        assert job is not None
        assert job["state"] == "SUCCEEDED"
        [answer] = engine.predict("example_line", [{"key": 7, "x": 10}])
        assert answer == {"key": 7, "y": pytest.approx(21, abs=0.1)}
        check_links(staged, run_id, job["jobId"])

        run(staged, "mlengine_evaluate")
        output = f"gs://graft/examples/predictions/{STAMP}"
        summary = staged.storage.read_json(f"{output}/prediction.summary.json")
        assert summary["count"] == 25
        assert summary["err"] < 0.2
        assert engine.get_model("example_line") is None
    finally:
        engine.close()


def test_the_dag_written_by_hand_trains_and_serves_a_model(stack: Stack) -> None:
    run(stack, "surfaces_by_hand")
    status = stack.graft_json("status")["engine"]
    engine = RestMLEngine(status["url"], status["project"], status["token"])
    try:
        [version] = engine.list_versions("surfaces_by_hand")
        assert (version["state"], version["isDefault"]) == ("READY", True)
    finally:
        engine.close()
    [history] = stack.storage.list_uris("gs://graft/classifiers/surfaces_by_hand/history/")
    assert stack.storage.read_json(history)["event"] == "promoted"


def check_links(stack: Stack, run_id: str, job_id: str) -> None:
    api = stack.airflow()
    path = f"/api/v2/dags/mlengine_train_and_deploy/dagRuns/{run_id}/taskInstances/training/links"
    links = api._call("GET", path)["extra_links"]
    assert links["Job"] == f"{api.url}/graft/jobs/{job_id}"
    log = "\n".join(event.text for event in api.task_log(_task(stack, run_id)))
    assert f"{job_id} | slope and offset: [" in log, "the job's own output is in the task's log"


def _task(stack: Stack, run_id: str) -> TaskInstance:
    tasks = stack.airflow().task_instances("mlengine_train_and_deploy", run_id)
    return next(task for task in tasks if task.task_id == "training")


class TestConnection:
    def test_has_a_form(self, stack: Stack) -> None:
        kinds = stack.airflow()._call("GET", "/ui/connections/hook_meta")
        [kind] = [kind for kind in kinds if kind["connection_type"] == "ml_engine"]
        assert kind["hook_name"] == "ML Engine"
        assert kind["standard_fields"]["host"]["title"] == "Endpoint"
        assert list(kind["extra_fields"]) == ["project", "others"]

    def test_test_button_tells_a_good_token_from_a_bad_one(self, stack: Stack) -> None:
        engine = stack.graft_json("status")["engine"]
        body = {"connection_id": "mine", "conn_type": "ml_engine", "host": engine["url"]}
        api = stack.airflow()
        answers = [
            api._call("POST", "/api/v2/connections/test", {**body, "password": token})
            for token in (engine["token"], "wrong")
        ]
        assert answers[0] == {"status": True, "message": "ML Engine answers."}
        assert answers[1]["status"] is False
        assert "Check the connection's token" in answers[1]["message"]

    def test_token_is_masked(self, stack: Stack) -> None:
        api = stack.airflow()
        body = {
            "connection_id": "masked",
            "conn_type": "ml_engine",
            "host": "http://e",
            "password": "s3cr3t-t0ken",
        }
        assert "s3cr3t" not in json.dumps(api._call("POST", "/api/v2/connections", body))
        assert api._call("GET", "/api/v2/connections/masked")["password"] == "***"
