from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from pipeline.artifacts.history import read_history
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from tests.fakes.evaluation import evaluation, metrics
from tests.fakes.ml_engine import FakeMLEngine

EXPECTED = {"a": [0.9, 0.1], "b": [0.2, 0.8]}


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
    def run(self, make_context: Callable[..., Any]) -> Any:
        from graft.operators.release import MLEngineSmokeTestOperator

        operator = MLEngineSmokeTestOperator(
            task_id="t",
            model_name="m",
            version_name="v2",
            instances=[{"key": "a"}, {"key": "b"}],
            expected=EXPECTED,
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


class TestPromotion:
    def promote(self, champion: str | None, make_context: Callable[..., Any]) -> Any:
        from graft.operators.release import MLEnginePromoteOperator

        operator = MLEnginePromoteOperator(task_id="t", model_name="m", version_name="v2", champion=champion)
        return operator.execute(make_context())

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
