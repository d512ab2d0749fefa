"""The step that asks a person: the question, the answer, and what each leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskAwaitingInput
from pytest_httpserver import HTTPServer

from pipeline.artifacts.history import read_history
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.deploy.approval import find_approval
from pipeline.deploy.trace import trace_version
from pipeline.storage import Storage
from tests.unit.plugins import test_operators
from tests.unit.plugins.test_operators import DATASET, YAML, World, execute, pick, promote, run_until_gate

ADA = {"id": "1", "name": "Ada"}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
world = test_operators.world  # the fixture


def answer(option: str, *, by: dict[str, str] | None = ADA, reason: str = "looks right") -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": NOW,
        "responded_by_user": by,
    }


class Approval:
    """The steps around the approval of one run, with the deploy and gate sections of a test."""

    def __init__(self, world: World, make_context: Callable[..., Any], questions: list[Any]) -> None:
        self.world = world
        self.make_context = make_context
        self.questions = questions
        self.dataset: dict[str, Any] = DATASET

    def configure(self, **sections: Any) -> None:
        self.dataset = {**DATASET, "classifier": {**YAML, **sections}}

    @property
    def dag(self) -> Any:
        from graft.training_dag import build_training_dag

        return build_training_dag(Classifier.from_dict(self.dataset["classifier"]))

    def run_step(self, task_id: str, **inputs: Any) -> Any:
        task = self.dag.get_task(task_id)
        for name, value in inputs.items():
            setattr(task, name, value)
        return execute(task, self.make_context(task_id=task_id))

    def reach(self) -> Any:
        """Run until the gate, and return the approve step as Airflow would start it."""
        self.done = run_until_gate(self.run_step, self.dataset)
        return self.reach_again()

    def reach_again(self) -> Any:
        task = self.dag.get_task("approve")
        for name in ("dataset", "gate", "evaluation"):
            setattr(task, name, self.done[name])
        self.context = self.make_context(task_id="approve")
        self.context["ti"].id = "ti"
        self.context["task_instance"] = self.context["ti"]
        return task

    def decide(self, option: str, **said: Any) -> Any:
        return self.reach().execute_complete(self.context, answer(option, **said))


@pytest.fixture
def approval(world: World, make_context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Approval:
    questions: list[Any] = []
    module = "airflow.providers.standard.operators.hitl.upsert_hitl_detail"
    monkeypatch.setattr(module, lambda **given: questions.append(given))
    approval = Approval(world, make_context, questions)
    approval.configure(deploy={"require_approval": True, "approval_hours": 2, "approvers": ["ada"]})
    return approval


@pytest.fixture
def airflow_answers(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    """Airflow's API, which knows what was answered to earlier tries."""
    connection = {"conn_type": "http", "host": httpserver.url_for("/"), "login": "admin", "password": "pw"}
    monkeypatch.setenv("AIRFLOW_CONN_GRAFT_AIRFLOW_API", json.dumps(connection))
    httpserver.expect_request("/auth/token", "POST").respond_with_json({"access_token": "T"}, status=201)
    return httpserver


class TestQuestion:
    def test_has_the_figures_the_report_and_the_time(
        self, approval: Approval, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        task = approval.reach()
        with pytest.raises(TaskAwaitingInput) as caught:
            task.execute(approval.context)
        assert caught.value.timeout.total_seconds() == 7200
        [question] = approval.questions
        assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
        assert question["assigned_users"] == [{"id": "ada", "name": "ada"}]
        assert "| accuracy | 1.0000 | - |" in question["body"]
        assert "champion (none serves)" in question["body"]
        assert "[Report](/graft/runs/m/manual__1)" in question["body"]
        assert "passed: absolute.accuracy.min" in question["body"]
        assert "m: a new version waits for approval, accuracy 1.0000" in caplog.text
        assert "/tasks/approve/required_actions" in caplog.text

    def test_compares_with_the_version_that_serves(self, approval: Approval) -> None:
        world = approval.world
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        world.storage.write_json("gs://graft/models/m/v_old/graft/labels.json", ["cat", "dog"])
        world.wrong["champion"] = True
        with pytest.raises(TaskAwaitingInput):
            approval.reach().execute(approval.context)
        body = approval.questions[0]["body"]
        assert "| metric | candidate | champion (v_old) |" in body
        assert "| accuracy | 1.0000 | 0.0000 |" in body
        assert "Only the candidate is right on 3 pictures, only the champion on 0." in body

    def test_takes_the_answer_of_nobody_as_configured(self, approval: Approval) -> None:
        approval.configure(deploy={"require_approval": True, "on_timeout": "approve"})
        with pytest.raises(TaskAwaitingInput):
            approval.reach().execute(approval.context)
        assert approval.questions[0]["defaults"] == ["Approve"]


class TestFirstVersion:
    def test_alone_is_asked_for_where_the_gate_says_so(self, approval: Approval) -> None:
        approval.configure(gate={"min_accuracy": 0.6, "first_version": "require_approval"})
        with pytest.raises(TaskAwaitingInput):
            approval.reach().execute(approval.context)
        assert "pending: first_version: waits for a person's approval" in approval.questions[0]["body"]

    def test_later_ones_are_not_asked_for(self, approval: Approval) -> None:
        approval.configure(gate={"min_accuracy": 0.6, "first_version": "require_approval"})
        approval.world.engine.ensure_model("m")
        approval.world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        assert approval.reach().execute(approval.context) == {"approval": None}
        assert approval.questions == []

    def test_that_a_person_overrode_the_gate_for_is_not_asked_for_again(self, approval: Approval) -> None:
        person = {"override_by": "Ada", "override_reason": "demo"}
        approval.configure(gate={"min_accuracy": 0.6, "first_version": "require_approval", **person})
        assert approval.reach().execute(approval.context) == {"approval": None}


class TestChangedClasses:
    def deploy_champion(self, world: World, *more: str) -> None:
        """Deploy a champion that knows more classes than the candidate."""
        world.engine.ensure_model("m")
        world.engine.create_version("m", {"name": "v_old", "deploymentUri": "gs://graft/old"})
        world.storage.write_json("gs://graft/models/m/v_old/graft/labels.json", ["cat", "dog", *more])
        world.wrong["champion"] = True

        def run_job(job: dict[str, Any]) -> dict[str, Any]:
            result = world.run_job(job)
            if "versionName" in job.get("predictionInput", {}):
                uri = f"{job['predictionInput']['outputPath']}/prediction.results-00000-of-00001"
                rows = [json.loads(line) for line in world.storage.read_bytes(uri).splitlines()]
                for row in rows:
                    row["outputs"] += [0.0] * len(more)
                world.storage.write_bytes(uri, "\n".join(map(json.dumps, rows)).encode())
            return result

        world.engine.run_job = run_job

    def test_are_asked_for_where_the_gate_says_so(self, approval: Approval) -> None:
        approval.configure(gate={"min_accuracy": 0.6, "classes_changed": "require_approval"})
        self.deploy_champion(approval.world, "cow")
        with pytest.raises(TaskAwaitingInput):
            approval.reach().execute(approval.context)
        body = approval.questions[0]["body"]
        assert "pending: classes_changed: waits for a person's approval: " in body

    def test_are_not_asked_for_where_they_are_the_same(self, approval: Approval) -> None:
        approval.configure(gate={"min_accuracy": 0.6, "classes_changed": "require_approval"})
        self.deploy_champion(approval.world)
        assert approval.reach().execute(approval.context) == {"approval": None}

    def test_nobody_is_asked_by_a_task_that_the_gate_skips(
        self, approval: Approval, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from graft.operators.gate import GateOperator

        skipped: list[list[str]] = []
        real = GateOperator.execute

        def record(operator: GateOperator, context: Any) -> Any:
            try:
                return real(operator, context)
            except DownstreamTasksSkipped as skip:
                skipped.append(list(skip.tasks))
                raise

        monkeypatch.setattr(GateOperator, "execute", record)
        for first_version, tasks in (("absolute_only", [["approve"]]), ("require_approval", [])):
            skipped.clear()
            approval.configure(gate={"min_accuracy": 0.6, "first_version": first_version})
            approval.reach()
            assert skipped == tasks
            assert approval.done["gate"]["decision"]["accepted"] is True


class TestAnswer:
    def test_yes_deploys_and_is_recorded_in_history_and_lineage(
        self, approval: Approval, storage: Storage
    ) -> None:
        workspace = Workspace(storage, "gs://graft")
        result = approval.decide("Approve")
        assert result["approval"] == {
            "approved": True,
            "by": "Ada",
            "reason": "looks right",
            "at": "2026-01-01T00:00:00+00:00",
        }
        done = approval.done
        done["version"] = approval.run_step("create_version", **done)
        promote(approval.run_step, done)
        events = [(event.event, event.by) for event in read_history(workspace, "m")]
        assert events == [("approved", "Ada"), ("promoted", None)]
        assert read_history(workspace, "m")[1].decided_by == "Ada"
        trace = trace_version(workspace, approval.world.engine, "m").to_dict()
        assert trace["gate"]["approval"] == result["approval"]
        assert trace["gate"]["decided_by"] == "Ada"
        version = approval.world.engine.get_version("m", done["version"]["version"])
        assert version is not None
        assert version["description"].endswith("; approved by Ada: looks right")

    def test_no_ends_the_run_green_without_a_version(self, approval: Approval, storage: Storage) -> None:
        with pytest.raises(DownstreamTasksSkipped) as caught:
            approval.decide("Reject", reason="blurred")
        assert caught.value.tasks == ["create_version", "promote", "publish", "smoke_test"]
        summary = storage.read_json("gs://graft/runs/m/manual__1/summary.json")
        assert (summary["state"], summary["version"]) == ("rejected", None)
        assert summary["gate"]["approval"]["reason"] == "blurred"
        assert summary["ended_by"] == "approve"
        [note] = approval.world.notes  # type: ignore[attr-defined]
        assert "**Rejected; nothing was deployed.**" in note
        assert "Approval: rejected by Ada: blurred" in note
        assert [event.event for event in read_history(Workspace(storage, "gs://graft"), "m")] == ["rejected"]
        assert approval.world.engine.models == {}

    def test_of_nobody_in_time_is_recorded_as_such(self, approval: Approval, storage: Storage) -> None:
        with pytest.raises(DownstreamTasksSkipped):
            approval.decide("Reject", by=None, reason="")
        found = find_approval(Workspace(storage, "gs://graft"), "m", "manual__1")
        assert found is not None
        assert found.line == "rejected by nobody in time, so by default"

    def test_that_was_never_given_stops_the_deployment(self, approval: Approval) -> None:
        approval.reach()
        with pytest.raises(AirflowFailException, match="ApprovalMissing: .*nobody was asked"):
            approval.run_step("create_version", **pick(approval.done, *approval.done))
        assert approval.world.engine.models == {}

    def test_is_not_asked_for_again_by_a_retry_but_by_a_task_that_somebody_cleared(
        self, approval: Approval
    ) -> None:
        with pytest.raises(DownstreamTasksSkipped):
            approval.decide("Reject", reason="blurred")
        task = approval.reach_again()
        approval.context["ti"].try_number = 2
        with pytest.raises(DownstreamTasksSkipped):
            task.execute(approval.context)
        assert approval.questions == []
        approval.context["ti"].max_tries = 3  # as clearing sets it
        with pytest.raises(TaskAwaitingInput):
            task.execute(approval.context)

    def test_that_airflow_lost_on_its_way_is_found_by_the_retry(
        self, approval: Approval, storage: Storage, airflow_answers: HTTPServer
    ) -> None:
        answer_path = "/api/v2/dags/m/dagRuns/manual__1/taskInstances/approve/-1/hitlDetails/tries/1"
        said = {**answer("Approve"), "responded_at": "2026-01-01T00:00:00Z"}
        airflow_answers.expect_request(answer_path, "GET").respond_with_json(said)
        task = approval.reach()
        approval.context["ti"].try_number = 2
        assert task.execute(approval.context)["approval"]["by"] == "Ada"
        found = find_approval(Workspace(storage, "gs://graft"), "m", "manual__1")
        assert found is not None
        assert (found.approved, found.reason, found.at) == (True, "looks right", NOW.isoformat())
        assert approval.questions == []

    @pytest.mark.parametrize("status", [200, 403, 404])
    def test_that_nobody_gave_or_that_cannot_be_found_is_asked_for_again(
        self, approval: Approval, airflow_answers: HTTPServer, status: int
    ) -> None:
        airflow_answers.expect_request(re.compile(".*/hitlDetails/tries/1")).respond_with_json(
            {"responded_at": None}, status=status
        )
        task = approval.reach()
        approval.context["ti"].try_number = 2
        with pytest.raises(TaskAwaitingInput):
            task.execute(approval.context)
        assert len(approval.questions) == 1

    def test_of_yes_after_no_counts(self, approval: Approval, storage: Storage) -> None:
        with pytest.raises(DownstreamTasksSkipped):
            approval.decide("Reject")
        approval.decide("Approve")
        found = find_approval(Workspace(storage, "gs://graft"), "m", "manual__1")
        assert found is not None
        assert found.approved
