from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from pipeline.artifacts.gate import GateDecision, Override, Rule, Verdict
from pipeline.artifacts.history import read_history
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.steps import GateResult
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.approval import record_approval
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import decision

EXPECTED = {"a": [0.9, 0.1], "b": [0.2, 0.8]}
REFUSED = replace(decision(0.5), accepted=False, reasons=("not_worse: it is worse",))


def waiting(key: str, limit: float | None = None) -> GateDecision:
    """A decision with a rule that is not judged yet."""
    rule = Rule(key=key, verdict=Verdict.PENDING, text=f"{key}: later", limit=limit, counts=True)
    return replace(decision(), rules=(rule,))


@pytest.fixture
def model(engine: FakeMLEngine) -> FakeMLEngine:
    """An engine whose model `m` serves v1 and has v2."""
    engine.ensure_model("m")
    for name in ("v1", "v2"):
        engine.create_version("m", {"name": name})
    engine.answer = lambda version, instance: {**instance, "outputs": EXPECTED[instance["key"]]}
    return engine


class TestGate:
    def test_decides_by_the_rules_it_is_given(
        self, storage: Storage, make_context: Callable[..., Any]
    ) -> None:
        from graft.operators.release import GateOperator

        storage.write_json("gs://graft/e.json", evaluation(metrics(accuracy=0.9)).to_dict())
        operator = GateOperator(task_id="t", evaluation="gs://graft/e.json", gate={"min_accuracy": 0.1})
        assert operator.execute(make_context())["decision"]["accepted"] is True
        operator = GateOperator(task_id="t", evaluation="gs://graft/e.json", gate={"min_accuracy": 1.0})
        context = make_context()
        with pytest.raises(DownstreamTasksSkipped):
            operator.execute(context)
        assert context["ti"].pushed["return_value"]["decision"]["accepted"] is False

    def test_rule_that_is_none_is_refused_when_the_dag_is_parsed(self) -> None:
        from graft.operators.release import GateOperator

        with pytest.raises(ConfigError, match="unknown key `gate.min_acuracy`"):
            GateOperator(task_id="t", evaluation="gs://e", gate={"min_acuracy": 0.5})


class TestSmokeTest:
    def run(self, make_context: Callable[..., Any], **more: Any) -> Any:
        from graft.operators.release import MLEngineSmokeTestOperator

        operator = MLEngineSmokeTestOperator(
            task_id="t",
            model_name="m",
            version_name="v2",
            instances=[{"key": "a"}, {"key": "b"}],
            expected=EXPECTED,
            **more,
        )
        return operator.execute(make_context())

    def test_passes_where_the_answers_are_the_expected_ones(
        self, model: FakeMLEngine, make_context: Callable[..., Any]
    ) -> None:
        assert self.run(make_context)["max_difference"] == 0.0

    def test_deletes_a_version_that_answers_otherwise(
        self, model: FakeMLEngine, make_context: Callable[..., Any]
    ) -> None:
        model.answer = lambda version, instance: {**instance, "outputs": [0.5, 0.5]}
        with pytest.raises(AirflowFailException, match="SmokeTestFailed"):
            self.run(make_context)
        assert set(model.versions["m"]) == {"v1"}

    def test_judges_the_latency_that_the_gate_step_left_to_it(
        self, model: FakeMLEngine, make_context: Callable[..., Any]
    ) -> None:
        gate = GateResult(decision=waiting("latency_ms.p95", 60_000.0)).to_dict()
        assert self.run(make_context, gate=gate)["latency"]["verdict"] == "passed"
        gate = GateResult(decision=waiting("latency_ms.p95", 1e-6)).to_dict()
        with pytest.raises(DownstreamTasksSkipped):
            self.run(make_context, gate=gate)
        assert set(model.versions["m"]) == {"v1"}


class TestPromotion:
    def promote(self, champion: str | None, make_context: Callable[..., Any], **more: Any) -> Any:
        from graft.operators.release import MLEnginePromoteOperator

        operator = MLEnginePromoteOperator(
            task_id="t", model_name="m", version_name="v2", champion=champion, **more
        )
        return operator.execute(make_context())

    @pytest.mark.parametrize(
        ("found", "error"),
        [
            (REFUSED, "GateRefused: The gate refused the version of run manual__1: not_worse: it is worse"),
            (waiting("latency_ms.p95", 1.0), r"GateRefused: .*nothing judged latency_ms\.p95 in run"),
            (waiting("compared_pictures"), "ApprovalMissing: .*nobody was asked"),
        ],
        ids=["refused", "unjudged", "not approved"],
    )
    def test_of_what_its_gate_did_not_let_through_is_an_error(
        self, model: FakeMLEngine, make_context: Callable[..., Any], found: GateDecision, error: str
    ) -> None:
        with pytest.raises(AirflowFailException, match=error):
            self.promote("v1", make_context, gate=GateResult(decision=found).to_dict())
        assert model.models["m"]["defaultVersion"]["name"].endswith("/v1")
        assert set(model.versions["m"]) == {"v1", "v2"}

    def test_of_what_a_person_took_in_spite_of_the_gate_is_done(
        self, model: FakeMLEngine, make_context: Callable[..., Any]
    ) -> None:
        taken = replace(REFUSED, accepted=True, override=Override(by="Ada", reason="a demo"))
        self.promote("v1", make_context, gate=GateResult(decision=taken).to_dict())
        assert model.models["m"]["defaultVersion"]["name"].endswith("/v2")

    @pytest.mark.parametrize("is_approved", [True, False])
    def test_follows_what_a_person_answered(
        self, model: FakeMLEngine, storage: Storage, make_context: Callable[..., Any], is_approved: bool
    ) -> None:
        answer = Approval(approved=is_approved, by="Ada", reason="seen", at="2026-01-01T00:00:00+00:00")
        workspace = Workspace(storage, "gs://graft")
        record_approval(workspace, "m", version="v2", run_id="manual__1", approval=answer)
        gate = GateResult(decision=waiting("compared_pictures")).to_dict()
        if is_approved:
            self.promote("v1", make_context, gate=gate)
        else:
            with pytest.raises(AirflowFailException, match="ApprovalMissing: .*rejected by Ada: seen"):
                self.promote("v1", make_context, gate=gate)
        assert model.models["m"]["defaultVersion"]["name"].endswith("/v2" if is_approved else "/v1")

    def test_is_recorded(
        self, model: FakeMLEngine, storage: Storage, make_context: Callable[..., Any]
    ) -> None:
        assert self.promote("v1", make_context) == {"promotion": "promoted", "previous": "v1"}
        assert model.models["m"]["defaultVersion"]["name"].endswith("/v2")
        [event] = read_history(Workspace(storage, "gs://graft"), "m")
        assert (event.version, event.decided_by) == ("v2", "DAG m")

    @pytest.mark.parametrize("champion", [None, "", "v0"])
    def test_of_a_version_compared_with_another_champion_is_superseded(
        self, model: FakeMLEngine, storage: Storage, make_context: Callable[..., Any], champion: str | None
    ) -> None:
        with pytest.raises(DownstreamTasksSkipped):
            self.promote(champion, make_context)
        assert set(model.versions["m"]) == {"v1"}
