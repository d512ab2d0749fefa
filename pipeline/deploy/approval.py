"""What a person said of a version that passed its gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.artifacts.history import HistoryEvent, read_history, record_event
from pipeline.config import Classifier
from pipeline.errors import ApprovalMissing
from pipeline.evaluate.gate import GateDecision
from pipeline.storage import Storage
from pipeline.types import JsonDict

TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A decision on one version.

    Args:
        approved: Whether it may be deployed.
        by: Who said so; `timeout` where nobody did in time.
        reason: Why, as far as they said.
        at: When, as ISO 8601.
    """

    approved: bool
    by: str
    reason: str
    at: str

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The decision in one line."""
        verb = "approved" if self.approved else "rejected"
        who = "nobody in time, so by default" if self.by == TIMEOUT else self.by
        return f"{verb} by {who}" + (f": {self.reason}" if self.reason else "")


def record_approval(
    storage: Storage, workspace: str, model: str, *, version: str, run_id: str, approval: Approval
) -> JsonDict:
    """Put a decision into the deployment history; a retry adds nothing.

    Args:
        storage: Where the history is.
        workspace: The bucket of the classifier.
        model: Name of the model.
        version: What the version is called, or would have been.
        run_id: The run that asked.
        approval: The decision.
    """
    event = HistoryEvent.APPROVED if approval.approved else HistoryEvent.REJECTED
    said = {"by": approval.by, "reason": approval.reason, "decided_at": approval.at}
    return record_event(
        storage, workspace, model, {"event": str(event), "version": version, "run_id": run_id, **said}
    )


def find_approval(storage: Storage, workspace: str, model: str, run_id: str) -> Approval | None:
    """Return what was said in a run, the last word of several; None where nobody was asked."""
    decided = (HistoryEvent.APPROVED, HistoryEvent.REJECTED)
    found = [
        event
        for event in read_history(storage, workspace, model)
        if event["event"] in decided and event["run_id"] == run_id
    ]
    if not found:
        return None
    last = found[-1]
    return Approval(
        approved=last["event"] == HistoryEvent.APPROVED,
        by=last["by"],
        reason=last["reason"],
        at=last["decided_at"],
    )


def needs_approval(classifier: Classifier, decision: GateDecision) -> bool:
    """Return whether a version that passed its gate needs a person's approval."""
    return classifier.deploy.require_approval or decision.waits_for_person


def check_approval(
    storage: Storage, workspace: str, classifier: Classifier, decision: GateDecision, run_id: str
) -> Approval | None:
    """Return the approval under which a run may deploy; None where it needs none.

    Raises:
        ApprovalMissing: if it needs one and nobody gave it, for instance because the step that asks was
            left out or set to success by hand.
    """
    approval = find_approval(storage, workspace, classifier.name, run_id)
    if needs_approval(classifier, decision) and not (approval and approval.approved):
        raise ApprovalMissing(
            f"A version of {classifier.name} needs a person's approval, and run {run_id} has none: "
            f"{approval.line if approval else 'nobody was asked'}. Clear the task `approve` and answer it.",
            run_id=run_id,
        )
    return approval
