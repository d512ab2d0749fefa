"""The history of a classifier's deployments: one immutable object for each event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar

from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import DamagedObject, RecordInvalid
from pipeline.types import JsonDict


class EventType(StrEnum):
    """What can happen to a version."""

    PROMOTED = "promoted"
    SUPERSEDED = "superseded"
    APPROVED = "approved"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


SERVING = (EventType.PROMOTED, EventType.ROLLED_BACK)  # the event's version serves from then on
DECISIONS = (EventType.APPROVED, EventType.REJECTED)
_PROMOTION = re.compile(r"/\d{8}T\d+-promoted-([A-Za-z0-9_]+)\.json$")  # as `record_event` names it


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent(Record):
    """An event in the life of a version.

    Args:
        event: What happened.
        version: The version that it happened to.
        run_id: The run that did it.
        at: When it was recorded, ISO 8601; empty until then.
        previous: What served until then; of events that change what serves.
        dataset_version: The pictures of the version; of promotions by a classifier's own DAG.
        accuracy: On the test pictures of its run; likewise.
        decided_by: Who let the version through: `gate` or a person.
        by: The person who approved, rejected or rolled back.
        reason: Why, as the person put it.
        decided_at: When the person decided.
        switched_off: Default rules of the gate that were not in force; of promotions.
    """

    FORMAT: ClassVar[int | None] = 1
    IS_SIGNED: ClassVar[bool] = True
    OMITS_DEFAULTS: ClassVar[bool] = True

    event: EventType
    version: str
    run_id: str
    at: str = ""
    previous: str | None = None
    dataset_version: str | None = None
    accuracy: float | None = None
    decided_by: str | None = None
    by: str | None = None
    reason: str | None = None
    decided_at: str | None = None
    switched_off: tuple[str, ...] = ()

    def to_dict(self) -> JsonDict:
        """Return plain JSON values; only `previous` may be null, other keys are left out then."""
        previous = {} if self.event in DECISIONS else {"previous": self.previous}
        return {**Record.to_dict(self), **previous}

    @property
    def person(self) -> str | None:
        """Who is behind the event: the person, else who let the version through."""
        return self.by or self.decided_by


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPeriod(Record):
    """How long a version served.

    Args:
        version: The version.
        since: When it began.
        until: When another one took over; None until now.
        event: What made it serve.
        run_id: The run that did.
        by: Who is behind it.
        reason: Why, where a person gave a reason.
    """

    version: str
    since: str
    until: str | None
    event: EventType
    run_id: str
    by: str | None
    reason: str | None


def record_event(
    workspace: Workspace, classifier: str, event: HistoryEvent, *, now: datetime | None = None
) -> HistoryEvent:
    """Add an event; a retry adds nothing.

    Returns:
        The event as it is stored, with its time.
    """
    for earlier in read_history(workspace, classifier):
        if (earlier.event, earlier.version, earlier.run_id) == (event.event, event.version, event.run_id):
            return earlier
    at = now or datetime.now(UTC)
    stored = replace(event, at=at.isoformat(timespec="milliseconds"))
    name = f"{at:%Y%m%dT%H%M%S%f}-{event.event}-{event.version}.json"
    stored.write(workspace.storage, f"{workspace.classifier(classifier).history}{name}")
    return stored


def read_history(workspace: Workspace, classifier: str) -> list[HistoryEvent]:
    """Return the events, oldest first."""
    storage = workspace.storage
    uris = storage.list_uris(workspace.classifier(classifier).history)
    return [HistoryEvent.read(storage, uri) for uri in uris]


def read_intact_history(workspace: Workspace, classifier: str) -> tuple[list[HistoryEvent], tuple[str, ...]]:
    """Return the events that can be read, oldest first, and what is wrong with each of the others."""
    storage, events, damaged = workspace.storage, [], []
    for uri in storage.list_uris(workspace.classifier(classifier).history):
        try:
            events.append(HistoryEvent.read(storage, uri))
        except (DamagedObject, RecordInvalid) as error:
            damaged.append(error.message if uri in error.message else f"{uri}: {error.message}")
    return events, tuple(damaged)


def serving_periods(history: Iterable[HistoryEvent]) -> list[ServingPeriod]:
    """Return what served when, oldest first."""
    periods: list[ServingPeriod] = []
    for event in history:
        if event.event not in SERVING:
            continue
        if periods:
            periods[-1] = replace(periods[-1], until=event.at)
        periods.append(
            ServingPeriod(
                version=event.version,
                since=event.at,
                until=None,
                event=event.event,
                run_id=event.run_id,
                by=event.person,
                reason=event.reason,
            )
        )
    return periods


def served_before(history: Iterable[HistoryEvent]) -> list[str]:
    """Return the versions that a rollback would come to one after the other, the one that serves now last.

    A rollback takes back what came after its version, so that a second one goes further back and not forth.
    """
    served: list[str] = []
    for event in history:
        if event.event not in SERVING:
            continue
        if event.version in served:
            del served[served.index(event.version) :]
        served.append(event.version)
    return served


def number_versions(uris: Iterable[str]) -> dict[str, int]:
    """Return what people call the versions: 1 for the first that ever served, 2 for the second, and so on.

    Args:
        uris: Of the events, oldest first; they need not be read.
    """
    numbers: dict[str, int] = {}
    for uri in uris:
        if match := _PROMOTION.search(uri):
            numbers.setdefault(match[1], len(numbers) + 1)
    return numbers


def withdrawn_versions(history: Iterable[HistoryEvent]) -> Mapping[str, str]:
    """Return the versions that a rollback took the traffic from and that did not get it again, with why."""
    withdrawn: dict[str, str] = {}
    serving = None
    for event in history:
        if event.event not in SERVING:
            continue
        if event.event is EventType.ROLLED_BACK and serving is not None:
            withdrawn[serving] = event.reason or ""
        withdrawn.pop(event.version, None)
        serving = event.version
    return withdrawn
