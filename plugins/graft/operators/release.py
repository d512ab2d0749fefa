"""From a model that passed its gate to one that serves: the smoke test and the promotion.

The DAG of a classifier is made of these operators too. There they also get the results of its other steps,
so that the run's report, summary and history say more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator, triggering_user
from graft.operators.gate import GateOperator
from graft.operators.inputs import StepInput, read_judged_gate, read_step
from graft.operators.rollback import RollBackModelOperator
from graft.operators.run_summary import finish_decided_run, skip_rest
from pipeline.artifacts.gate import LATENCY_RULE
from pipeline.artifacts.pack import read_pack_index
from pipeline.artifacts.steps import (
    DatasetResult,
    EvaluateResult,
    GateResult,
    Promotion,
    PromotionResult,
    SmokeTestResult,
)
from pipeline.config import Classifier, GateConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.gate import GateDecision
    from pipeline.artifacts.history import HistoryEvent
    from pipeline.artifacts.run_summary import RunSummary
    from pipeline.evaluate.predictions import Prediction
    from pipeline.types import JsonObject

__all__ = ["GateOperator", "MLEnginePromoteOperator", "MLEngineSmokeTestOperator", "RollBackModelOperator"]


class MLEngineSmokeTestOperator(GraftOperator):
    """Predict test pictures online with a new version; one that answers otherwise than expected is deleted.

    Args:
        model_name: The model.
        version_name: The version.
        instances: What it is asked, for signature `keyed`: `{"key": ..., "inputs": {"b64": ...}}`.
        expected: The outputs that each key must have, within 1e-3.
        dataset: Instead of instances, the result of the clean step: some of its test pictures are asked.
        evaluation: Instead of expected outputs, the result of the evaluate step, which holds them.
        gate: Result of the gate step; a version that is too slow for its rule `latency_ms.p95` is refused as
            the gate refuses: it is deleted, and the task ends green with what follows skipped.
        latency_budget_seconds: The longest that one answer may take.
        arguments: Those of `GraftOperator`.

    Raises:
        ConfigError: if only one of a pair is given.
    """

    template_fields: Sequence[str] = (
        *("model_name", "version_name", "instances", "expected", "dataset", "evaluation", "gate"),
        "project_id",
    )

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str,
        instances: Sequence[JsonObject] | None = None,
        expected: Mapping[str, Sequence[float]] | None = None,
        dataset: StepInput | None = None,
        evaluation: StepInput | None = None,
        gate: StepInput | None = None,
        latency_budget_seconds: float = 10.0,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name
        self.instances = instances
        self.expected = expected
        self.dataset = dataset
        self.evaluation = evaluation
        self.gate = gate
        self.latency_budget_seconds = latency_budget_seconds
        is_set = [value is not None for value in (instances, expected, dataset, evaluation)]
        if is_set not in ([True, True, False, False], [False, False, True, True]):
            raise ConfigError(
                f"{self.task_id}: give `instances` with `expected`, or `dataset` with `evaluation`."
            )

    def perform(self, context: Context) -> SmokeTestResult:
        """Return how close the answers are and how fast they came."""
        from pipeline.deploy.smoke_test import judge_latency, smoke_test_or_delete
        from pipeline.evaluate.gate import read_override

        instances, expected, gate = self._golden_test() if self.instances is None else self._own_test()
        result = smoke_test_or_delete(
            self.connect(),
            model=self.model_name,
            version=self.version_name,
            instances=instances,
            expected=expected,
            latency_budget_seconds=self.latency_budget_seconds,
        )
        limit = self._latency_limit(gate)
        if limit is None:
            return result
        rule = judge_latency(result, limit)
        self.log.info("%s: %s", rule.verdict, rule.text)
        override = read_override(gate) if gate else None
        signed = override.signed_by(triggering_user(context)) if override else None
        return self._follow_latency(context, replace(result, latency=rule, override=signed))

    def _latency_limit(self, gate: GateConfig | None) -> float | None:
        """Return the milliseconds that the gate step left to judge, or else those of the classifier."""
        if self.gate is not None:
            rules = read_step(GateResult, self.gate).decision.rules
            return next((rule.limit for rule in rules if rule.key == LATENCY_RULE), None)
        return gate.latency_ms.p95 if gate and gate.latency_ms else None

    def _follow_latency(self, context: Context, result: SmokeTestResult) -> SmokeTestResult:
        """Return the result, or end the run as refused if the version is too slow for its gate."""
        from pipeline.artifacts.run_summary import Outcome
        from pipeline.deploy.approval import find_approval
        from pipeline.deploy.staging import discard_version

        gate = read_step(GateResult, self.gate) if self.gate is not None else None
        decision = result.judge(gate.decision) if gate else None
        if not result.is_too_slow or (decision.accepted if decision else result.override):
            return result
        self.log.warning("refused: %s", result.latency.text if result.latency else "")
        discard_version(self.connect(), self.model_name, self.version_name)
        if gate is not None and decision is not None and gate.summary is not None:
            approval = find_approval(self.workspace, self.model_name, context["ti"].run_id)
            summary = replace(gate.summary, state=Outcome.REFUSED).judged(decision)
            finish_decided_run(context, summary, decision, approval)
        raise skip_rest(self, context, result)

    def _own_test(self) -> tuple[list[JsonObject], dict[str, Prediction], None]:
        from pipeline.evaluate.predictions import Prediction

        expected = {
            key: Prediction(key=key, outputs=tuple(outputs), label=None)
            for key, outputs in (self.expected or {}).items()
        }
        return list(self.instances or ()), expected, None

    def _golden_test(self) -> tuple[list[JsonObject], dict[str, Prediction], GateConfig]:
        from pipeline.artifacts.folders import DatasetVersionFolder
        from pipeline.deploy.smoke_test import read_golden_instances
        from pipeline.evaluate.predictions import join_predictions, read_predictions, read_test_labels

        dataset = read_step(DatasetResult, self.dataset)
        evaluation = read_step(EvaluateResult, self.evaluation)
        storage = self.workspace.storage
        labels = read_test_labels(DatasetVersionFolder(storage, dataset.uri))
        tests = [tests.uri for tests in read_pack_index(storage, dataset.pack_index).tests]
        return (
            read_golden_instances(storage, tests, labels),
            join_predictions(read_predictions(storage, evaluation.predictions), labels),
            Classifier.from_dict(dataset.classifier).gate,
        )


class MLEnginePromoteOperator(GraftOperator):
    """Make a version the default if the default still is the one it was compared with; record it.

    Otherwise the version is deleted, and the task ends green with what follows skipped: superseded.

    Args:
        model_name: The model.
        version_name: The version.
        champion: The version that served when this one was evaluated; None or empty where none did.
        gate: Result of the gate step. A version that it refused, or has not judged to the end, is an error;
            the history and a superseded run's summary say what it decided.
        smoke_test: Result of the smoke test, which judged the gate's rule on the latency.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = (
        *("model_name", "version_name", "champion", "gate", "smoke_test"),
        "project_id",
    )

    def __init__(
        self,
        *,
        model_name: str,
        version_name: str,
        champion: str | None,
        gate: StepInput | None = None,
        smoke_test: StepInput | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.model_name = model_name
        self.version_name = version_name
        self.champion = champion
        self.gate = gate
        self.smoke_test = smoke_test

    def perform(self, context: Context) -> PromotionResult:
        """Return how the promotion ended and which version was the default before."""
        from pipeline.artifacts.history import EventType, HistoryEvent, record_event
        from pipeline.deploy.approval import check_promotion
        from pipeline.deploy.promote import promote_version

        gate = read_judged_gate(self.gate, self.smoke_test) if self.gate is not None else None
        if gate is not None:
            check_promotion(self.workspace, self.model_name, gate.decision, context["ti"].run_id)
        champion = self.champion or None
        promotion = promote_version(
            self.workspace,
            self.connect(),
            model=self.model_name,
            version=self.version_name,
            champion=champion,
        )
        event = HistoryEvent(
            event=EventType(promotion),
            version=self.version_name,
            previous=champion,
            run_id=context["ti"].run_id,
            decided_by=f"DAG {context['ti'].dag_id}",
        )
        record_event(self.workspace, self.model_name, self._describe(event, gate))
        result = PromotionResult(promotion=promotion, previous=champion)
        if promotion is Promotion.PROMOTED:
            return result
        if gate is not None and gate.summary is not None:
            self._finish(context, gate.decision, gate.summary)
        raise skip_rest(self, context, result)

    def _describe(self, event: HistoryEvent, gate: GateResult | None) -> HistoryEvent:
        """Add what the gate of a classifier's run tells about the version."""
        from pipeline.artifacts.model_record import decided_by
        from pipeline.deploy.approval import find_approval

        if gate is None or gate.summary is None:
            return event
        return replace(
            event,
            dataset_version=gate.summary.dataset.version,
            accuracy=gate.decision.metrics.accuracy,
            switched_off=gate.decision.switched_off,
            decided_by=decided_by(
                gate.decision, find_approval(self.workspace, self.model_name, event.run_id)
            ),
        )

    def _finish(self, context: Context, decision: GateDecision, summary: RunSummary) -> None:
        from pipeline.artifacts.run_summary import Outcome
        from pipeline.deploy.approval import find_approval

        approval = find_approval(self.workspace, self.model_name, context["ti"].run_id)
        finish_decided_run(context, replace(summary, state=Outcome.SUPERSEDED), decision, approval)
