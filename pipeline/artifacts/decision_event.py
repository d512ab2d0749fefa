"""What people decided about pictures, event by event: `decisions.csv` has only what is in force."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal, TypeAlias

from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.record import Record

Action: TypeAlias = Literal["delete", "relabel", "confirm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Record):
    """A decision about a picture.

    Args:
        action: `delete`, `relabel`, or `confirm` for a label that is right.
        label: The right label; empty for `delete`.
    """

    action: Action
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedPicture(Record):
    """A picture that an event was about.

    Args:
        picture: Its id.
        label: The label it had then.
        before: The decision that was in force until then.
        after: The decision that is in force since then.
    """

    picture: str
    label: str
    before: Decided | None = None
    after: Decided | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionEvent(Record):
    """What a person decided at once, about one picture or many.

    Args:
        at: When, in ISO 8601.
        by: Who.
        version: The dataset version that they looked at.
        pictures: The pictures.
        undoes: Id of the event that it takes back; empty if it is none's.
    """

    FORMAT: ClassVar[int | None] = 1

    at: str
    by: str
    version: str
    pictures: tuple[DecidedPicture, ...]
    undoes: str = ""


def write_event(dataset: DatasetFolder, event: DecisionEvent) -> str:
    """Add an event, and return its id; ids sort by time."""
    at = datetime.fromisoformat(event.at).astimezone(UTC)
    id = f"{at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
    event.write(dataset.storage, dataset.decision_event(id))
    return id


def list_event_ids(dataset: DatasetFolder) -> list[str]:
    """Return the ids of all events, the newest first."""
    start = dataset.decision_events
    uris = dataset.storage.list_uris(start)
    return sorted((uri.removeprefix(start).removesuffix(".json") for uri in uris), reverse=True)
