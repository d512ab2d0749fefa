"""What people decide about pictures on the pages, what they decided before, and how it is taken back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.artifacts.decision_event import (
    Decided,
    DecidedPicture,
    DecisionEvent,
    list_event_ids,
    write_event,
)
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import ConfigError, ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.pictures import Picture, pending_decisions, read_pictures
from pipeline.preprocess.decisions import Decision, decide_pictures, parse_decisions

MAX_DECIDED = 500  # pictures at once
EVENTS_SHOWN = 50
EVENTS_SEARCHED = 1000  # for the last one of a person
PICTURES_SHOWN = 12  # of an event
_EVENT_ID = re.compile(r"\d{8}T\d{12}-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionResult:
    """What a person's decision did.

    Args:
        event: Its id.
        pictures: Those whose decision it changed.
        kept: How many pictures keep what was decided on them since; of what is taken back.
    """

    event: str
    pictures: Sequence[DecidedPicture]
    kept: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An event as the history shows it.

    Args:
        id: Its id.
        event: What happened.
        text: The same in words.
        is_undone: Whether a later event took it back.
    """

    id: str
    event: DecisionEvent
    text: str
    is_undone: bool

    @property
    def shown(self) -> Sequence[DecidedPicture]:
        """The first of its pictures."""
        return self.event.pictures[:PICTURES_SHOWN]


def decide(
    cache: ArtifactCache, name: str, version: str, *, ids: Sequence[str], decided: Decided | None, by: str
) -> DecisionResult:
    """Write what a person decided about pictures; `None` takes back what is in force for them.

    A label is confirmed for each picture as the version has it.

    Raises:
        ConfigError: if the version lacks a picture, the label is no class of it, or there are too many.
    """
    info = cache.dataset(name, version)
    pictures = read_pictures(cache, name, version).by_id if info else {}
    missing = next((id for id in ids if id not in pictures), None)
    if info is None or missing is not None or not ids:
        which = f"no picture {missing or ''!r}"
        raise ConfigError(f"Dataset version {version!r} of {name} has {which} to decide on.")
    if len(ids) > MAX_DECIDED:
        raise ConfigError(f"Decide on {MAX_DECIDED} pictures at once at most. Received: {len(ids)}")
    if decided and decided.action == "relabel" and decided.label not in info.classes:
        raise ConfigError(
            f"{decided.label!r} is no class of {name}; the classes are {', '.join(info.classes)}."
        )
    labels = {id: pictures[id].label for id in ids}
    new: dict[str, Decided | None] = dict.fromkeys(labels, decided)
    if decided and decided.action == "confirm":
        new = {id: Decided(action="confirm", label=label) for id, label in labels.items()}
    return _change(cache, name, version, labels, new, by)


def _change(
    cache: ArtifactCache,
    name: str,
    version: str,
    labels: Mapping[str, str],
    decided: Mapping[str, Decided | None],
    by: str,
) -> DecisionResult:
    dataset = cache.workspace.dataset(name)
    with acquire_lock(cache.workspace, name, subject="decisions"):
        before = pending_decisions(cache, name)
        decide_pictures(dataset, decided)
        changes = tuple(
            DecidedPicture(
                picture=id,
                label=labels[id],
                before=before[id].decided if id in before else None,
                after=decided[id],
            )
            for id in labels
        )
        event = DecisionEvent(at=_now(), by=by, version=version, pictures=changes)
        return DecisionResult(event=write_event(dataset, event), pictures=changes)


def undo(cache: ArtifactCache, name: str, *, event: str = "", by: str) -> DecisionResult:
    """Take an event back: what was in force before is in force again; an event that undoes is done again.

    Pictures on which something else was decided since keep it.

    Args:
        cache: Reads the workspace.
        name: The classifier.
        event: Id of the event; the person's last one that is not taken back if empty.
        by: Who takes it back.

    Raises:
        ObjectNotFound: if there is no such event.
        ConfigError: if it is taken back already.
    """
    dataset = cache.workspace.dataset(name)
    with acquire_lock(cache.workspace, name, subject="decisions"):
        past = _find_event(cache, name, event, by)
        in_force = {picture: decision.decided for picture, decision in pending_decisions(cache, name).items()}
        changes = tuple(
            DecidedPicture(picture=each.picture, label=each.label, before=each.after, after=each.before)
            for each in past.event.pictures
            if in_force.get(each.picture) == each.after
        )
        decide_pictures(dataset, {each.picture: each.after for each in changes})
        undone = DecisionEvent(at=_now(), by=by, version=past.event.version, pictures=changes, undoes=past.id)
        kept = len(past.event.pictures) - len(changes)
        return DecisionResult(event=write_event(dataset, undone), pictures=changes, kept=kept)


def _find_event(cache: ArtifactCache, name: str, id: str, by: str) -> PastEvent:
    for past in list_events(cache, name, limit=EVENTS_SEARCHED):
        is_last = not id and past.event.by == by and not past.is_undone and not past.event.undoes
        if past.id == id or is_last:
            if past.is_undone:
                raise ConfigError("That is taken back already.")
            return past
    what = f"decision {id[:40]!r}" if id else f"decision of {by} that can be taken back"
    raise ObjectNotFound(f"{name} has no {what} among the last {EVENTS_SEARCHED}.")


def list_events(cache: ArtifactCache, name: str, *, limit: int = EVENTS_SHOWN) -> Iterator[PastEvent]:
    """Yield what was decided, the newest first."""
    dataset, undone = cache.workspace.dataset(name), set[str]()
    ids = [id for id in list_event_ids(dataset) if _EVENT_ID.fullmatch(id)]
    for id in ids[:limit]:
        uri = dataset.decision_event(id)
        event = cache.fixed(uri, lambda uri=uri: DecisionEvent.read(cache.storage, uri))  # type: ignore[misc]
        if event is None:
            continue
        yield PastEvent(id=id, event=event, text=_describe_event(event), is_undone=id in undone)
        if event.undoes:
            undone.add(event.undoes)


def count_pending(cache: ArtifactCache, name: str) -> int:
    """Return how many pictures the next run will treat otherwise than the latest version, by decision."""
    latest = cache.latest_dataset(name)
    now = _changing(pending_decisions(cache, name).values())
    if latest is None:
        return len(now)
    uri = cache.workspace.dataset(name).version(latest.version).decisions
    data = cache.fixed(uri, lambda: cache.storage.read_bytes(uri))
    applied = _changing(parse_decisions(data, uri))
    return sum(now.get(picture) != applied.get(picture) for picture in {*now, *applied})


def _changing(decisions: Iterable[Decision]) -> dict[str, Decided]:
    return {each.picture: each.decided for each in decisions if each.action != "confirm"}


def describe_decisions(pictures: Iterable[Picture], decisions: Mapping[str, Decision]) -> dict[str, str]:
    """Return what is in force for pictures in words, by id; nothing for those on which nobody decided."""
    shown = ((picture, decisions.get(picture.id)) for picture in pictures)
    return {each.id: describe_decision(decision.decided, each.label) for each, decision in shown if decision}


def describe_decision(decided: Decided | None, label: str) -> str:
    """Return what is in force for a picture in words; nothing where nothing is.

    Args:
        decided: What is in force.
        label: The label that it has in the version that is looked at.
    """
    if decided is None:
        return ""
    if decided.action == "confirm" or decided.label == label:
        return f"A person decided that it is {decided.label}."
    change = "be left out" if decided.action == "delete" else f"be {decided.label}"
    return f"Will {change} from the next run on."


def _describe_event(event: DecisionEvent) -> str:
    counts = Counter(_describe_change(each.after) for each in event.pictures)
    text = ", ".join(f"{count} {change}" for change, count in counts.items()) or "nothing"
    return f"took back: {text}" if event.undoes else text


def _describe_change(decided: Decided | None) -> str:
    if decided is None:
        return "as the source says"
    return {"delete": "left out", "confirm": "confirmed as {}", "relabel": "relabelled {}"}[
        decided.action
    ].format(decided.label)


def _now() -> str:
    return datetime.now(UTC).isoformat()
