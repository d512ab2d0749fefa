"""The gate: holds the evaluation of a candidate against rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graft.links import RUN_LINKS
from graft.operators.base import GraftOperator, triggering_user
from graft.operators.inputs import StepInput, read_step, read_steps
from graft.operators.run_summary import finish_decided_run, skip_rest, skip_tasks
from pipeline.artifacts.steps import (
    DatasetResult,
    EvaluateResult,
    FetchResult,
    GateResult,
    PackResult,
    TrainResult,
)
from pipeline.config import Classifier, GateConfig
from pipeline.config.gate import ChangeAction
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.evaluation import Evaluation
    from pipeline.artifacts.gate import GateDecision
    from pipeline.types import JsonDict, JsonObject


APPROVING = "MLEngineApproveVersionOperator"  # by name, since its module costs a task's start


class GateOperator(GraftOperator):
    """Decide whether a candidate is deployed. A refusal is an outcome: green, with all after it skipped.

    With the results of the other steps it writes the report of the run, too, and starts the run's summary.

    Args:
        evaluation: Result of the evaluate step, or the URI of an `evaluation.json`.
        gate: The rules, as the section `gate` of a classifier's YAML; unless given, those of the run's
            classifier, which `dataset` holds.
        dataset: Result of the clean step.
        training: Result of the train step; with `dataset`, a report is written.
        fetched: Results of the fetch step, whose work the summary counts.
        packed: Results of the pack step, the same.
        arguments: Those of `GraftOperator`.

    Raises:
        ConfigError: naming the rule that does not exist, or if there is neither `gate` nor `dataset`.
    """

    template_fields: Sequence[str] = ("evaluation", "dataset", "training", "fetched", "packed")
    operator_extra_links = RUN_LINKS  # type: ignore[misc]

    def __init__(
        self,
        *,
        evaluation: StepInput,
        gate: JsonObject | None = None,
        dataset: StepInput | None = None,
        training: StepInput | None = None,
        fetched: StepInput = (),
        packed: StepInput = (),
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.evaluation = evaluation
        self.gate = gate
        self.dataset = dataset
        self.training = training
        self.fetched = fetched
        self.packed = packed
        if gate is not None:
            read_gate(gate, origin=self.task_id)
        elif dataset is None:
            raise ConfigError(f"{self.task_id}: give the rules as `gate`, or the result of the clean step.")

    def perform(self, context: Context) -> GateResult:
        """Return the decision, and where the report is."""
        from pipeline.evaluate.gate import decide_gate

        evaluation, rules = self._evaluation(), self._rules()
        decision = decide_gate(evaluation, rules, split_changed=self._split_changed())
        if decision.override:
            signed = decision.override.signed_by(triggering_user(context))
            decision = replace(decision, override=signed)
        for rule in decision.rules:
            self.log.info("%s: %s", rule.verdict, rule.text)
        if decision.override:
            self.log.warning("overridden by %s: %s", decision.override.by, decision.override.reason)
        result = GateResult(decision=decision)
        if self.dataset is not None and self.training is not None:
            result = self._report(context, evaluation, decision)
        if decision.accepted:
            return self._go_on(context, result)
        self.log.warning("refused: %s", "; ".join(decision.reasons))
        if result.summary is not None:
            finish_decided_run(context, result.summary, decision)
        raise skip_rest(self, context, result)

    def _go_on(self, context: Context, result: GateResult) -> GateResult:
        """Return the result, or skip the task that asks a person if no approval is needed."""
        from pipeline.deploy.approval import needs_approval

        following = self.get_direct_relatives() if self.downstream_task_ids else ()
        asking = [task for task in following if task.task_type == APPROVING]
        if not asking or self.dataset is None:
            return result
        classifier = Classifier.from_dict(read_step(DatasetResult, self.dataset).classifier)
        if needs_approval(classifier, result.decision):
            return result
        raise skip_tasks(context, result, asking)

    def _evaluation(self) -> Evaluation:
        from pipeline.artifacts.evaluation import Evaluation

        uri = self.evaluation
        if not isinstance(uri, str):
            uri = read_step(EvaluateResult, uri).uri
        return Evaluation.read(self.workspace.storage, uri)

    def _rules(self) -> GateConfig:
        if self.gate is not None or self.dataset is None:
            return read_gate(self.gate or {}, origin=self.task_id)
        return Classifier.from_dict(read_step(DatasetResult, self.dataset).classifier).gate

    def _split_changed(self) -> ChangeAction:
        """Return what happens when the split is made in another way than the champion's."""
        if self.dataset is None:
            return "require_approval"
        dataset = read_step(DatasetResult, self.dataset)
        return Classifier.from_dict(dataset.classifier).dataset.split_changed

    def _report(self, context: Context, evaluation: Evaluation, decision: GateDecision) -> GateResult:
        from pipeline.artifacts.run_summary import Outcome
        from pipeline.deploy.run_summary import build_summary, count_work
        from pipeline.report.build import write_report

        dataset, training = read_step(DatasetResult, self.dataset), read_step(TrainResult, self.training)
        run_id = context["ti"].run_id
        summary = build_summary(
            run_id=run_id,
            state=Outcome.SUCCESS if decision.accepted else Outcome.REFUSED,
            dataset=dataset,
            work=count_work(
                read_steps(FetchResult, self.fetched),
                dataset,
                read_steps(PackResult, self.packed),
                forwarded=training.forwarded,
                cached=training.cached,
            ),
            evaluation=evaluation,
            decision=decision,
        )
        report = write_report(
            self.workspace,
            run_id=run_id,
            classifier=Classifier.from_dict(dataset.classifier),
            dataset=dataset,
            training=training,
            evaluation=evaluation,
            decision=decision,
        )
        self.log.info("report: %s", report)
        return GateResult(decision=decision, summary=summary, report=report)


def read_gate(gate: JsonObject, *, origin: str) -> GateConfig:
    """Return the rules of a gate.

    Raises:
        ConfigError: naming the rule that does not exist.
    """
    dataset = {"source": {"type": "sample"}}  # the gate is read as a part of a whole, so that keys are named
    whole: JsonDict = {"name": "gate", "dataset": dataset, "gate": dict(gate)}
    return Classifier.from_dict(whole, origin=origin).gate
