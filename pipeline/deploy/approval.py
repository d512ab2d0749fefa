"""A person's decision on a version that passed its gate."""

from __future__ import annotations

from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.history import DECISIONS, EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ApprovalMissing


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


def check_approval(
    workspace: Workspace, classifier: Classifier, decision: GateDecision, run_id: str
) -> Approval | None:
    """Return the approval under which a run may deploy; None where it needs none.

    Raises:
        ApprovalMissing: if it needs one and has none, for instance because the step that asks was left out or
            set to success by hand.
    """
    approval = find_approval(workspace, classifier.name, run_id)
    if needs_approval(classifier, decision) and not (approval and approval.approved):
        raise ApprovalMissing(
            f"A version of {classifier.name} needs a person's approval, and run {run_id} has none: "
            f"{approval.line if approval else 'nobody was asked'}. Clear the task `approve` and answer it.",
            run_id=run_id,
        )
    return approval
