"""The history of a classifier's deployments: one immutable object for each event."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.storage import Storage
from pipeline.types import JsonDict


def record_event(
    storage: Storage, workspace: str, classifier: str, event: JsonDict, *, now: datetime | None = None
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
