"""Asks a person whether a candidate may be deployed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param

from graft.failures import airflow_failures
from graft.hooks.airflow_api import AirflowApiHook
from graft.links import page_url
from graft.notifications import NEWS, build_notifiers, make_news
from graft.operators.base import open_workspace
from graft.operators.inputs import StepInput, read_step
from graft.operators.run_summary import finish_decided_run, skip_rest
from pipeline.artifacts.run_summary import Outcome
from pipeline.artifacts.steps import ApprovalResult, DatasetResult, EvaluateResult, GateResult
from pipeline.config import Classifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.airflow_api import Answer
    from pipeline.artifacts.gate import GateDecision
    from pipeline.artifacts.model_record import Approval
    from pipeline.types import JsonDict, JsonValue

REASON = Param(
    None,
    type=["null", "string"],  # a mere string would have to be filled in
    title="Why",
    description="Recorded with the version; may stay empty.",
    source="task",  # those of the DAG are no part of the answer
)


class MLEngineApproveVersionOperator(ApprovalOperator):
    """Wait for a person to approve the candidate; nothing is deployed without it.

    The question has the candidate's and the champion's figures and the address of the report. A run waits
    without a slot and without the triggerer. A rejection is an outcome: green, with all after it skipped.
    Where no approval is needed, the step ends at once.

    Args:
        classifier: The classifier; its `deploy` section says how long to wait, for whom, and what then.
        dataset: Result of the clean step.
        gate: Result of the gate step.
        evaluation: Result of the evaluate step.
        arguments: Those of `ApprovalOperator`.
    """

    template_fields: Sequence[str] = ("subject", "body", "dataset", "gate", "evaluation")

    def __init__(
        self,
        *,
        classifier: Classifier,
        dataset: StepInput,
        gate: StepInput,
        evaluation: StepInput,
        **arguments: Any,
    ) -> None:
        deploy = classifier.deploy
        arguments["params"] = {"reason": REASON}  # instead of those that Airflow hands down from the DAG
        super().__init__(
            subject=f"Deploy a new version of {classifier.name}?",
            defaults=self.APPROVE if deploy.on_timeout == "approve" else self.REJECT,
            response_timeout=timedelta(hours=deploy.approval_hours),
            assigned_users=[{"id": name, "name": name} for name in deploy.approvers] or None,
            notifiers=build_notifiers(classifier.notify),
            **arguments,
        )
        self.dataset = dataset
        self.gate = gate
        self.evaluation = evaluation

    def execute(self, context: Context) -> JsonValue:
        """Ask, unless no approval is needed."""
        from pipeline.deploy.approval import needs_approval

        with airflow_failures():
            decision = self._decision()
            dataset = read_step(DatasetResult, self.dataset)
            if not needs_approval(Classifier.from_dict(dataset.classifier), decision):
                self.log.info("no approval is needed")
                return ApprovalResult().to_dict()
            approval = self._find_answer(context, dataset.dataset)
            if approval is not None:
                return self._follow(context, approval)
            self._prepare_question(context, decision)
        result: JsonValue = super().execute(context)
        return result

    def _find_answer(self, context: Context, model: str) -> Approval | None:
        """Return what was answered to an earlier try of this task, and record it where that try could not."""
        from pipeline.deploy.approval import find_approval

        if not self._is_retry(context):
            return None
        ti = context["ti"]
        recorded = find_approval(open_workspace(), model, ti.run_id)
        if recorded is not None:
            return recorded
        answer = AirflowApiHook().find_answer(ti.dag_id, ti.run_id, ti.task_id, int(ti.try_number) - 1)
        return None if answer is None else self._record(context, model, to_approval(answer, self.APPROVE))

    def _prepare_question(self, context: Context, decision: GateDecision) -> None:
        """Write the question, and the news for those who may answer it."""
        from pipeline.artifacts.evaluation import Evaluation
        from pipeline.evaluate.report import approval_question

        ti, uri = context["ti"], read_step(EvaluateResult, self.evaluation).uri
        evaluation = Evaluation.read(open_workspace().storage, uri)
        self.body = approval_question(evaluation, decision, report=page_url("runs", ti.dag_id, ti.run_id))
        text = f"a new version waits for approval, accuracy {evaluation.candidate.accuracy:.4f}"
        page = f"/tasks/{ti.task_id}/required_actions"
        context[NEWS] = make_news(Outcome.APPROVAL, text, ti.dag_id, ti.run_id, page=page)  # type: ignore[literal-required]

    def execute_complete(self, context: Context, event: JsonDict) -> JsonValue:
        """Record the answer, and end the run if it was no."""
        from pipeline.airflow_api import Answer

        answer = Answer.from_dict(HITLOperator.execute_complete(self, context, event))
        with airflow_failures():
            model = read_step(DatasetResult, self.dataset).dataset
            return self._follow(context, self._record(context, model, to_approval(answer, self.APPROVE)))

    def _record(self, context: Context, model: str, approval: Approval) -> Approval:
        from pipeline.deploy.approval import record_approval
        from pipeline.deploy.version import version_name

        ti = context["ti"]
        self.log.info("%s", approval.line)
        version = version_name(ti.dag_id, ti.run_id)
        record_approval(open_workspace(), model, version=version, run_id=ti.run_id, approval=approval)
        return approval

    def _is_retry(self, context: Context) -> bool:
        """Return whether this is an automatic retry; a task that a person clears asks anew.

        Airflow may fail a task that resumes right after it began to wait: it mistakes the exit of the first
        process for the exit of the second. The answer is then with that try, and must not be asked for again.
        """
        ti = context["ti"]
        return int(ti.try_number) > int(ti.max_tries) - int(self.retries or 0) + 1

    def _follow(self, context: Context, approval: Approval) -> JsonValue:
        result, gate = ApprovalResult(approval=approval), read_step(GateResult, self.gate)
        if approval.approved:
            return result.to_dict()
        if gate.summary is not None:
            rejected = replace(gate.summary, state=Outcome.REJECTED)
            finish_decided_run(context, rejected, gate.decision, approval)
        raise skip_rest(self, context, result)

    def _decision(self) -> GateDecision:
        return read_step(GateResult, self.gate).decision


def to_approval(answer: Answer, yes: str) -> Approval:
    """Return Airflow's answer as an approval."""
    from pipeline.artifacts.model_record import TIMEOUT, Approval

    return Approval(
        approved=list(answer.options) == [yes],
        by=answer.user or TIMEOUT,
        reason=str(answer.fields.get("reason") or "").strip(),
        at=answer.at.isoformat(),
    )
