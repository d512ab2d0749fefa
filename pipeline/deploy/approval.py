"""What a version needs to be deployed and promoted: its gate's yes, and a person's where it asks one."""

from __future__ import annotations

from pipeline.artifacts.gate import PERSONS_RULES, GateDecision, Verdict
from pipeline.artifacts.history import DECISIONS, EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ApprovalMissing, GateRefused


def record_approval(
    workspace: Workspace, model: str, *, version: str, run_id: str, approval: Approval
) -> HistoryEvent:
    """Put a decision into the deployment history; a retry adds nothing.

    Args:
        workspace: Where the history is.
        model: Name of the model.
        version: What the version is called, or would have been.
        run_id: The run that asked.
        approval: The decision.
    """
    event = HistoryEvent(
        event=EventType.APPROVED if approval.approved else EventType.REJECTED,
        version=version,
        run_id=run_id,
        by=approval.by,
        reason=approval.reason,
        decided_at=approval.at,
    )
    return record_event(workspace, model, event)


def find_approval(workspace: Workspace, model: str, run_id: str) -> Approval | None:
    """Return the last decision of a run; None where nobody was asked."""
    decisions = [
        event
        for event in read_history(workspace, model)
        if event.event in DECISIONS and event.run_id == run_id
    ]
    if not decisions:
        return None
    last = decisions[-1]
    return Approval(
        approved=last.event is EventType.APPROVED,
        by=last.by or "",
        reason=last.reason or "",
        at=last.decided_at or "",
    )


def needs_approval(classifier: Classifier, decision: GateDecision) -> bool:
    """Return whether a version that passed its gate needs a person's approval."""
    return classifier.deploy.require_approval or decision.waits_for_person


def check_deployment(
    workspace: Workspace, classifier: Classifier, decision: GateDecision, run_id: str
) -> Approval | None:
    """Return the approval under which a run may deploy; None where it needs none.

    Raises:
        GateRefused: if the gate refused the version.
        ApprovalMissing: if it needs one and has none, for instance because the step that asks was left out or
            set to success by hand.
    """
    _check_accepted(decision, run_id)
    approval = find_approval(workspace, classifier.name, run_id)
    if needs_approval(classifier, decision):
        _check_given(approval, classifier.name, run_id)
    return approval


def check_promotion(workspace: Workspace, model: str, decision: GateDecision, run_id: str) -> None:
    """Check that a version may serve, after the smoke test.

    Raises:
        GateRefused: if the gate refused it, or has a rule that was never judged.
        ApprovalMissing: if it needs a person's approval and has none.
    """
    _check_accepted(decision, run_id)
    left = [rule for rule in decision.rules if rule.verdict is Verdict.PENDING]
    unjudged = [rule.key for rule in left if rule.key not in PERSONS_RULES]
    if unjudged:
        raise GateRefused(
            f"A version of {model} is not promoted: nothing judged {', '.join(unjudged)} in run {run_id}. "
            "Give the smoke test the result of the gate as `gate`, and this task that of the smoke test as "
            "`smoke_test`.",
            run_id=run_id,
        )
    if decision.waits_for_person:
        _check_given(find_approval(workspace, model, run_id), model, run_id)


def _check_accepted(decision: GateDecision, run_id: str) -> None:
    if not decision.accepted:
        raise GateRefused(
            f"The gate refused the version of run {run_id}: {'; '.join(decision.reasons)}. The task that "
            "deploys or promotes it must be skipped with the others after the gate: give it no trigger rule "
            "that ignores skipped tasks but `none_failed`, and make it follow the gate. A person takes the "
            "version with `gate.override_by` and `gate.override_reason`.",
            run_id=run_id,
        )


def _check_given(approval: Approval | None, model: str, run_id: str) -> None:
    if approval is None or not approval.approved:
        raise ApprovalMissing(
            f"A version of {model} needs a person's approval, and run {run_id} has none: "
            f"{approval.line if approval else 'nobody was asked'}. Clear the task `approve` and answer it.",
            run_id=run_id,
        )
