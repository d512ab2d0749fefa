"""What a person said of a version that passed its gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pipeline.deploy.history import HistoryEvent, record_event
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
