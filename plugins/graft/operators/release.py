"""Gate, smoke test and promotion as single tasks, for DAGs of one's own; `RollBackModelOperator` goes back.

In the DAG of a classifier these steps hand each other what they made; here each says what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator
from graft.operators.rollback import RollBackModelOperator
from graft.operators.run_summary import skip_what_follows
from pipeline.config import Classifier, GateConfig
from pipeline.types import JsonDict

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = [
    "EvaluationGateOperator",
    "MLEnginePromoteOperator",
    "MLEngineSmokeTestOperator",
    "RollBackModelOperator",
]


class EvaluationGateOperator(GraftOperator):
    """Hold an evaluation against rules. A refusal is an outcome: green, with all after it skipped.

    Args:
        evaluation_uri: An `evaluation.json`, as the evaluate step writes it.
        gate: The rules, as the section `gate` of a classifier's YAML.
        arguments: Those of `GraftOperator`.

    Raises:
        ConfigError: naming the rule that is none.
    """

    template_fields: Sequence[str] = ("evaluation_uri",)

    def __init__(self, *, evaluation_uri: str, gate: Mapping[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.evaluation_uri = evaluation_uri
        self.gate = gate
        read_gate(gate, origin=self.task_id)

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the decision with every rule."""
        from pipeline.evaluate.evaluation import read_evaluation
        from pipeline.evaluate.gate import decide_gate

        gate = read_gate(self.gate, origin=self.task_id)
        decision = decide_gate(read_evaluation(self.workspace.storage, self.evaluation_uri), gate)
        for rule in decision.rules:
            self.log.info("%s: %s", rule.verdict, rule.text)
        if decision.accepted:
            return decision.to_dict()
        self.log.warning("refused: %s", "; ".join(decision.reasons))
        context["ti"].xcom_push(key="return_value", value=decision.to_dict())
        raise skip_what_follows(self)


class MLEngineSmokeTestOperator(GraftOperator):
    """Ask a version online what its answers are known of; one that answers otherwise is deleted.

    Args:
        model_name: The model.
        version_name: The version.
        instances: What it is asked about, for signature `keyed`: `{"key": ..., "inputs": {"b64": ...}}`.
        expected: The outputs that each key must have, within 1e-3.
        latency_budget_seconds: The longest that one answer may take.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "version_name", "instances", "expected", "project_id")

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str,
        instances: Sequence[Mapping[str, Any]],
        expected: Mapping[str, Sequence[float]],
        latency_budget_seconds: float = 10.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name
        self.instances = instances
        self.expected = expected
        self.latency_budget_seconds = latency_budget_seconds

    def perform(self, context: Context) -> dict[str, Any]:
        """Return how near the answers are and how fast they came."""
        from pipeline.deploy.smoke_test import smoke_test_or_delete
        from pipeline.evaluate.predictions import Prediction

        expected = {
            key: Prediction(key=key, outputs=tuple(outputs), label=None)
            for key, outputs in self.expected.items()
        }
        result = smoke_test_or_delete(
            self.connect(),
            model=self.model_name,
            version=self.version_name,
            instances=[dict(instance) for instance in self.instances],
            expected=expected,
            latency_budget_seconds=self.latency_budget_seconds,
        )
        return result.to_dict()


class MLEnginePromoteOperator(GraftOperator):
    """Give a version the traffic if what serves still is what it was compared with; record it in the history.

    Otherwise the version is deleted, and the task ends green with what follows skipped.

    Args:
        model_name: The model.
        version_name: The version.
        champion: The version that served when this one was evaluated; None or empty where none did.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("model_name", "version_name", "champion", "project_id")

    def __init__(self, *, model_name: str, version_name: str, champion: str | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name
        self.champion = champion

    def perform(self, context: Context) -> dict[str, Any]:
        """Return how the promotion ended and which version was default before."""
        from pipeline.artifacts.history import record_event
        from pipeline.deploy.promote import Promotion, promote_version

        champion, run_id = self.champion or None, context["ti"].run_id
        promotion = promote_version(
            self.connect(),
            self.workspace.storage,
            self.workspace.uri,
            model=self.model_name,
            version=self.version_name,
            champion=champion,
        )
        event = {"event": str(promotion), "version": self.version_name, "previous": champion}
        said = {"run_id": run_id, "decided_by": f"DAG {context['ti'].dag_id}"}
        record_event(self.workspace.storage, self.workspace.uri, self.model_name, {**event, **said})
        result = {"promotion": str(promotion), "previous": champion}
        if promotion is Promotion.PROMOTED:
            return result
        context["ti"].xcom_push(key="return_value", value=result)
        raise skip_what_follows(self)


def read_gate(gate: Mapping[str, Any], *, origin: str) -> GateConfig:
    """Return the rules of a gate.

    Raises:
        ConfigError: naming the rule that is none.
    """
    dataset = {"source": {"type": "sample"}}  # the gate is read as a part of a whole, so that keys are named
    whole: JsonDict = {"name": "gate", "dataset": dataset, "gate": dict(gate)}
    return Classifier.from_dict(whole, origin=origin).gate
