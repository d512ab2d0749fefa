"""Step 7: ask a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param

from graft.failures import airflow_failures
from graft.links import page_url
from graft.notifications import NEWS, build_notifiers, make_news
from graft.operators.base import open_workspace
from graft.operators.run_summary import finish_run, skip_what_follows
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.deploy.approval import Approval
    from pipeline.evaluate.gate import GateDecision

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
    Where nobody has to be asked, the step ends at once.

    Args:
        classifier: The classifier; its `deploy` section says how long to wait, for whom, and what then.
        dataset: Result of the clean step.
        gate: Result of the gate step.
        evaluation: Result of the evaluate step.
        arguments: Those of `ApprovalOperator`.
    """

    template_fields: Sequence[str] = ("subject", "body", "dataset", "gate", "evaluation")

    def __init__(
        self, *, classifier: Classifier, dataset: Any, gate: Any, evaluation: Any, **arguments: Any
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

    @property
    def workspace(self) -> Workspace:
        """The bucket of datasets, models and runs."""
        return open_workspace()

    def execute(self, context: Context) -> Any:
        """Ask, unless nobody has to be asked."""
        from pipeline.deploy.approval import find_approval, needs_approval
        from pipeline.evaluate.evaluation import read_evaluation
        from pipeline.evaluate.report import approval_question

        with airflow_failures():
            decision = self._decision()
            if not needs_approval(Classifier.from_dict(self.dataset["classifier"]), decision):
                self.log.info("no approval is needed")
                return {"approval": None}
            name, run_id = self.dataset["dataset"], context["ti"].run_id
            said = (
                find_approval(self.workspace.storage, self.workspace.uri, name, run_id)
                if self._is_retry(context)
                else None
            )
            if said is not None:
                return self._follow(context, said)
            evaluation = read_evaluation(self.workspace.storage, self.evaluation["uri"])
            ti = context["ti"]
            page = page_url("runs", ti.dag_id, ti.run_id)
            self.body = approval_question(evaluation, decision, report=page)
        text = f"a new version waits for approval, accuracy {evaluation.candidate.accuracy:.4f}"
        page = f"/tasks/{ti.task_id}/required_actions"
        context[NEWS] = make_news("approval", text, ti.dag_id, ti.run_id, page=page)  # type: ignore[literal-required]
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Record what was said, and end the run if it was no."""
        from pipeline.deploy.approval import record_approval
        from pipeline.deploy.version import version_name

        answer = HITLOperator.execute_complete(self, context, event)
        ti = context["ti"]
        with airflow_failures():
            approval = read_answer(answer, self.APPROVE)
            self.log.info("%s", approval.line)
            record_approval(
                self.workspace.storage,
                self.workspace.uri,
                self.dataset["dataset"],
                version=version_name(ti.dag_id, ti.run_id),
                run_id=ti.run_id,
                approval=approval,
            )
            return self._follow(context, approval)

    def _is_retry(self, context: Context) -> bool:
        """Return whether Airflow tries again by itself; a task that somebody clears asks anew.

        Airflow may fail a task that goes on very soon after it has begun to wait: it takes the end of the
        first process for the end of the second.
        """
        ti = context["ti"]
        return int(ti.try_number) > int(ti.max_tries) - int(self.retries or 0) + 1

    def _follow(self, context: Context, approval: Approval) -> dict[str, Any]:
        from pipeline.deploy.summary import RunState

        result = {"approval": approval.to_dict()}
        if approval.approved:
            return result
        summary = {**self.gate["summary"], "state": str(RunState.REJECTED)}
        finish_run(self, context, summary, self._decision(), approval)
        context["ti"].xcom_push(key="return_value", value=result)
        raise skip_what_follows(self)

    def _decision(self) -> GateDecision:
        from pipeline.evaluate.gate import GateDecision

        return GateDecision.from_dict(self.gate["decision"])


def read_answer(answer: Mapping[str, Any], yes: str) -> Approval:
    """Return Airflow's answer as an approval; nobody has answered where the time was up."""
    from pipeline.deploy.approval import TIMEOUT, Approval

    user = answer["responded_by_user"]
    return Approval(
        approved=answer["chosen_options"] == [yes],
        by=str(user["name"] or user["id"]) if user else TIMEOUT,
        reason=str((answer["params_input"] or {}).get("reason") or "").strip(),
        at=answer["responded_at"].isoformat(),
    )
