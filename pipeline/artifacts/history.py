"""The history of a classifier's deployments: one immutable object for each event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pipeline.storage import Storage
from pipeline.types import JsonDict


class HistoryEvent(StrEnum):
    """What can happen to a version."""

    PROMOTED = "promoted"
    SUPERSEDED = "superseded"
    APPROVED = "approved"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


SERVING = (HistoryEvent.PROMOTED, HistoryEvent.ROLLED_BACK)  # the event's version serves from then on


def record_event(
    storage: Storage,
    workspace: str,
    classifier: str,
    event: Mapping[str, Any],
    *,
    now: datetime | None = None,
) -> JsonDict:
    """Add an event, which has at least `event`, `version` and `run_id`; a retry adds nothing.

    Returns:
        The event as it is stored, with its time.
    """
    for known in read_history(storage, workspace, classifier):
        if all(known[key] == event[key] for key in ("event", "version", "run_id")):
            return known
    at = now or datetime.now(UTC)
    stored = {**event, "at": at.isoformat(timespec="milliseconds")}
    name = f"{at:%Y%m%dT%H%M%S%f}-{event['event']}-{event['version']}.json"
    storage.write_json(f"{workspace}/classifiers/{classifier}/history/{name}", stored)
    return stored


def read_history(storage: Storage, workspace: str, classifier: str) -> list[JsonDict]:
    """Return the events, oldest first."""
    uris = storage.list_uris(f"{workspace}/classifiers/{classifier}/history/")
    return [storage.read_json(uri) for uri in uris]


def serving_periods(history: Iterable[Mapping[str, Any]]) -> list[JsonDict]:
    """Return what served when, oldest first.

    Each has `version`, `since`, `until` (null: until now), `event`, `run_id`, `by` and `reason`.

    Args:
        history: The events, as `read_history` gives them.
    """
    periods: list[JsonDict] = []
    for event in history:
        if event["event"] not in SERVING:
            continue
        if periods:
            periods[-1]["until"] = event["at"]
        periods.append(
            {
                "version": event["version"],
                "since": event["at"],
                "until": None,
                "event": event["event"],
                "run_id": event["run_id"],
                "by": event.get("by") or event.get("decided_by"),
                "reason": event.get("reason"),
            }
        )
    return periods


def served_before(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the versions that a rollback would come to one after the other, the one that serves now last.

    A rollback takes back what came after its version, so that a second one goes further back and not forth.
    """
    served: list[str] = []
    for event in history:
        if event["event"] not in SERVING:
            continue
        if event["version"] in served:
            del served[served.index(event["version"]) :]
        served.append(event["version"])
    return served
