"""Runs that wait for a person, runs by event that have nothing to do, and the way back: on the real stack."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.conftest import ClassifierDag, Stack, wait_until

NAME = "vetted"
CLASSIFIER = {
    "name": NAME,
    "dataset": {"source": {"type": "sample", "classes": ["brick", "grass"]}},
    "model": {"epochs": 3, "head": {"units": 64}},
    "gate": {"min_accuracy": 0.5},
    "deploy": {"require_approval": True},
    "schedule": "on_dataset_change",
    "retrain": {"debounce_seconds": 1},
}


READING = timedelta(seconds=6)  # from the start of the task


class Vetted(ClassifierDag):
    """The classifier of these tests, whose versions a person lets through."""

    def question(self) -> dict[str, Any] | None:
        """Return what is asked, not before a person could have read it.

        An answer that comes before the scheduler has seen the end of the worker that asked costs a try of the
        task, and one that comes so soon at each try ends the run as failed.
        """
        path = f"dags/{NAME}/dagRuns/~/hitlDetails?response_received=false"
        waiting = [
            detail
            for detail in self.call("GET", path)["hitl_details"]
            if detail["task_instance"]["state"] == "awaiting_input"
            and datetime.now(UTC) - datetime.fromisoformat(detail["task_instance"]["start_date"]) > READING
        ]
        return waiting[0] if waiting else None

    def run(self, option: str, reason: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Run, answer as a person would by REST, and return exit code, JSON and question.

        It answers again if it is asked again: Airflow loses an answer that comes before its scheduler has
        seen the end of the worker that asked, and tries the task once more.
        """
        answer = {"chosen_options": [option], "params_input": {"reason": reason}}
        with self.stack.start_graft("run", NAME, "--json", *arguments) as run:
            try:
                asked = wait_until(self.question, seconds=240, what="question")
                path = quote(asked["task_instance"]["dag_run_id"], safe="")
                path = f"dags/{NAME}/dagRuns/{path}/taskInstances/approve/-1/hitlDetails"
                self.call("PATCH", path, answer)

                def has_ended() -> bool:
                    if self.question():
                        self.call("PATCH", path, answer)
                    return run.poll() is not None

                wait_until(has_ended, seconds=240, what="end of the run", pause=1)
                stdout, _ = run.communicate(timeout=10)
            finally:
                run.kill()
        return run.returncode, json.loads(stdout), asked["body"]


@pytest.fixture(scope="module")
def vetted(stack: Stack) -> Vetted:
    return Vetted(stack, CLASSIFIER)


@pytest.fixture(scope="module")
def approved(vetted: Vetted) -> dict[str, Any]:
    code, result, question = vetted.run("Approve", "looks right")
    assert code == 0, result
    assert "| metric | candidate | champion (none serves) |" in question
    assert f"/graft/runs/{NAME}/" in question
    return result


def test_approval_by_rest_deploys_and_is_in_json_lineage_and_history(
    vetted: Vetted, approved: dict[str, Any]
) -> None:
    said = approved["gate"]["approval"]
    assert (approved["state"], said["approved"], said["reason"]) == ("success", True, "looks right")
    assert said["by"]
    lineage = vetted.stack.graft_json("lineage", NAME)
    assert lineage["gate"]["approval"] == said
    history = vetted.stack.graft_json("history", NAME)
    assert [event["event"] for event in history["events"]] == ["approved", "promoted"]
    assert history["events"][1]["decided_by"] == said["by"]


def test_event_of_new_pictures_starts_a_run_that_finds_nothing_new(
    vetted: Vetted, approved: dict[str, Any]
) -> None:
    [asset] = vetted.call("GET", f"assets?uri_pattern=graft://sources/{NAME}")["assets"]
    for _ in range(3):
        vetted.call("POST", "assets/events", {"asset_id": asset["id"], "extra": {"pictures": 1}})

    def ended() -> list[dict[str, Any]]:
        path = f"dags/{NAME}/dagRuns?run_type=asset_triggered&order_by=run_after"
        runs: list[dict[str, Any]] = vetted.call("GET", path)["dag_runs"]
        return runs if runs and all(run["state"] == "success" for run in runs) else []

    runs = wait_until(ended, seconds=120, what="end of the runs by event")
    assert len(runs) <= 2  # a burst of three
    for run in runs:
        states = vetted.states(run["dag_run_id"])
        assert {name for name, found in states.items() if found == {"success"}} == {
            "settle",
            "fetch",
            "clean",
        }
        assert states["train"] == states["publish"] == {"skipped"}
        assert vetted.note(run["dag_run_id"]).startswith("**Nothing new; nothing was trained.**")


def test_run_if_changed_prints_the_champion(vetted: Vetted, approved: dict[str, Any]) -> None:
    result = vetted.stack.graft_json("run", NAME, "--if-changed")
    assert (result["state"], result["skipped"], result["version"]) == ("skipped", True, approved["version"])
    assert result["evaluation"] == approved["evaluation"]
    assert result["work"] == {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": 0}


def test_rejection_by_rest_leaves_no_version_and_exits_with_3(
    vetted: Vetted, approved: dict[str, Any]
) -> None:
    code, result, question = vetted.run("Reject", "too alike", "--param", "model.seed=1")
    assert (code, result["state"], result["version"]) == (3, "rejected", None), result
    assert f"champion ({approved['version']})" in question
    assert [row["version"] for row in vetted.stack.graft_json("versions", NAME)] == [approved["version"]]
    states = {name: {task.state for task in tasks} for name, tasks in vetted.tasks(result["run_id"]).items()}
    assert (states["approve"], states["create_version"], states["publish"]) == (
        {"success"},
        {"skipped"},
        {"skipped"},
    )
    assert "Approval: rejected by" in vetted.note(result["run_id"])
    [task] = vetted.tasks(result["run_id"])["approve"]
    log = "\n".join(event.text for event in vetted.stack.airflow().task_log(task))
    assert f"rejected: {NAME}: rejected by" in log
    assert f"/dags/{NAME}/runs/" in log


def test_rollback_dag_gives_the_older_version_the_traffic_and_says_who_and_why(
    vetted: Vetted, approved: dict[str, Any]
) -> None:
    from pipeline.ml_engine.rest import RestMLEngine

    status = vetted.stack.status["engine"]
    engine = RestMLEngine(status["url"], status["project"], status["token"])
    try:
        old = engine.get_version(NAME, approved["version"])
        assert old is not None
        engine.create_version(
            NAME,
            {
                "name": "v_other",
                "deploymentUri": old["deploymentUri"],
                "runtimeVersion": old["runtimeVersion"],
                "framework": "TENSORFLOW",
                "pythonVersion": "3.11",
            },
        )
        engine.set_default(NAME, "v_other")
    finally:
        engine.close()
    conf = {"model": NAME, "reason": "nobody knows this one"}
    run = vetted.call("POST", "dags/model_rollback/dagRuns", {"logical_date": None, "conf": conf})

    def ended() -> str | None:
        state = vetted.stack.airflow().run_state("model_rollback", run["dag_run_id"])
        return state if state in ("success", "failed") else None

    assert wait_until(ended, seconds=60, what="end of the rollback") == "success"
    event = vetted.stack.graft_json("history", NAME)["events"][-1]
    assert (event["event"], event["version"], event["previous"]) == (
        "rolled_back",
        approved["version"],
        "v_other",
    )
    assert (event["by"], event["reason"]) == ("admin", "nobody knows this one")
    defaults = {row["version"]: row["is_default"] for row in vetted.stack.graft_json("versions", NAME)}
    assert defaults == {approved["version"]: True, "v_other": False}
