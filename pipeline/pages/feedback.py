"""*Feedback*: what people said of wrong answers, and what somebody decides on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline.artifacts.feedback import Feedback, list_feedback
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.live_traffic import ORIGIN, traffic_rank

SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackView:
    """The queue of a classifier.

    Args:
        waiting: What is not decided; at most `SHOWN`. What people said comes first, the oldest first; then
            live traffic, the least certain and most novel first.
        decided: What was decided last, the latest first.
        num_waiting: How many wait.
        num_confirmed: How many are confirmed.
        classes: The labels that can be confirmed: those of the latest dataset version.
    """

    waiting: Sequence[Feedback]
    decided: Sequence[Feedback]
    num_waiting: int
    num_confirmed: int
    classes: Sequence[str]


def read_feedback(cache: ArtifactCache, name: str) -> FeedbackView:
    """Return the queue of a classifier."""
    records = list_feedback(cache.workspace.feedback(name))
    waiting = [record for record in records if record.confirmed is None]
    waiting.sort(key=_order)
    decided = [record for record in records if record.confirmed is not None]
    decided.sort(key=lambda record: record.decided_at, reverse=True)
    return FeedbackView(
        waiting=waiting[:SHOWN],
        decided=decided[:SHOWN],
        num_waiting=len(waiting),
        num_confirmed=sum(bool(record.confirmed) for record in decided),
        classes=list_classes(cache, name),
    )


def _order(record: Feedback) -> tuple[bool, float]:
    is_traffic = record.origin == ORIGIN
    return is_traffic, traffic_rank(record.score, record.novelty) if is_traffic else 0.0


def list_classes(cache: ArtifactCache, name: str) -> list[str]:
    """Return the classes of the latest dataset version; none before the first."""
    info = cache.latest_dataset(name)
    return list(info.classes) if info else []


def decide_feedback(
    cache: ArtifactCache, name: str, id: str, *, confirmed: bool | None, label: str, by: str
) -> None:
    """Confirm or reject the label of a picture, or take a decision back.

    Args:
        cache: Reads the workspace.
        name: The classifier.
        id: Of the picture.
        confirmed: Whether the label is right; None takes the decision back.
        label: The label that is confirmed.
        by: Who decides.

    Raises:
        ObjectNotFound: if there is no such picture.
        ConfigError: if a label is confirmed that the classifier does not have, as it could not be tested,
            or another person has decided on the picture already.
    """
    with acquire_lock(cache.workspace, name, subject="feedback"):
        record = _find_open(cache, name, id, by=by if confirmed is not None else "")
        decided = _decide(cache, name, record, confirmed=confirmed, label=label, by=by)
        folder = cache.workspace.feedback(name)
        decided.write(folder.storage, folder.record(id))


def _find_open(cache: ArtifactCache, name: str, id: str, *, by: str) -> Feedback:
    """Return what a person may decide: not what another has decided; without `by` it is taken back."""
    folder = cache.workspace.feedback(name)
    record = Feedback.find(folder.storage, folder.record(id))
    if record is None:
        raise ObjectNotFound(f"{name} has no feedback {id[:12]}.")
    if record.confirmed is not None and by not in ("", record.decided_by):
        what = f"confirmed that it is {record.label}" if record.confirmed else "rejected the label"
        raise ConfigError(f"{record.decided_by} has {what} already. Take that back first.")
    return record


def _decide(
    cache: ArtifactCache, name: str, record: Feedback, *, confirmed: bool | None, label: str, by: str
) -> Feedback:
    classes = list_classes(cache, name)
    if confirmed and label not in classes:
        raise ConfigError(
            f"{name} has no class {label!r}, so a picture of it could only train and never test. Add "
            f"pictures of it to a source first. Classes: {', '.join(classes) or 'none yet'}"
        )
    return replace(
        record,
        label=label if confirmed else record.label,
        confirmed=confirmed,
        decided_by=by if confirmed is not None else "",
        decided_at=datetime.now(UTC).isoformat(timespec="seconds") if confirmed is not None else "",
    )
