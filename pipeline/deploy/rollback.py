"""Rolls a model back: an older version gets the traffic at once; the history records who and why."""

from __future__ import annotations

import base64
import logging
import uuid
from dataclasses import dataclass
from typing import ClassVar

from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event, served_before
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import PlatformError, RollbackRefused, StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version, resource_id
from pipeline.types import JsonValue

log = logging.getLogger(__name__)

READY = "READY"
# The smallest picture there is: it is asked to load a version, not for what is on it.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Record):
    """A rollback that took effect.

    Args:
        model: The model.
        version: What serves now.
        previous: What served until then.
        by: Who wanted it.
        reason: Why.
        run_id: What asked for it.
        at: When.
    """

    model: str
    version: str
    previous: str | None
    by: str
    reason: str
    run_id: str
    at: str

    @classmethod
    def of(cls, model: str, event: HistoryEvent) -> Rollback:
        """Return the rollback of a history event."""
        return cls(
            model=model,
            version=event.version,
            previous=event.previous,
            by=event.by or "",
            reason=event.reason or "",
            run_id=event.run_id,
            at=event.at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackPlan(Record):
    """The version to go to and the one that serves, as they were when the rollback was first asked for."""

    FORMAT: ClassVar[int | None] = 1

    version: str
    previous: str | None


def find_rollback_target(workspace: Workspace, engine: MLEngine, model: str) -> str | None:
    """Return the version that a rollback goes to unless one is named; None where there is none.

    It is the last one that served before the present default and still is READY.
    """
    current = default_version(engine.get_model(model))
    ready = _ready_versions(engine, model)
    earlier = served_before(read_history(workspace, model))
    if current in earlier:
        earlier = earlier[: earlier.index(current)]
    return next((version for version in reversed(earlier) if version in ready and version != current), None)


def rollback_version(
    workspace: Workspace,
    engine: MLEngine,
    *,
    model: str,
    by: str,
    reason: str,
    to: str | None = None,
    run_id: str | None = None,
) -> Rollback:
    """Give an older version the traffic and record it; promotions and rollbacks of a model share a lock.

    The version is loaded before the traffic turns to it, if it is not kept warm anyway.

    Args:
        workspace: Where history and lock are.
        engine: Where the model lives.
        model: Name of the model.
        by: Who wants it.
        reason: Why; kept in the history.
        to: The version; the one that served before unless given.
        run_id: What asks for it; with the same one it happens once only. A new one unless given.

    Raises:
        RollbackRefused: if there is nothing to go back to, the version is not READY or serves already, or
            nobody or no reason is named.
        StorageError: if ML Engine was so slow that the lock ran out; safe to retry.
    """
    by, reason = _check_request(model, by, reason)
    run_id = run_id or f"rollback__{uuid.uuid4().hex[:12]}"
    with acquire_lock(workspace, model) as lock:
        if event := _find_rollback(workspace, model, run_id):
            return Rollback.of(model, event)
        plan = _make_plan(workspace, engine, model, to, run_id)
        wake_version(engine, model, plan.version)
        if not lock.is_valid:
            raise StorageError(f"The lock to roll {model} back to {plan.version} ran out; try again.")
        engine.set_default(model, plan.version)
        event = HistoryEvent(
            event=EventType.ROLLED_BACK,
            version=plan.version,
            previous=plan.previous,
            run_id=run_id,
            by=by,
            decided_by=by,
            reason=reason,
        )
        event = record_event(workspace, model, event)
    log.info("%s serves %s, no longer %s: %s (%s)", model, plan.version, plan.previous, reason, by)
    return Rollback.of(model, event)


def wake_version(engine: MLEngine, model: str, version: str) -> None:
    """Make sure that a version is loaded, so that traffic never waits for it.

    Raises:
        PlatformUnavailable: if it does not come up; safe to retry.
    """
    instance: list[JsonValue] = [{"inputs": {"b64": base64.b64encode(PIXEL).decode()}}]
    try:
        engine.predict(model, instance, version=version, is_test=True)
    except PlatformError as error:
        if error.transient:
            raise
        log.info("version %s of %s is loaded, but takes no picture: %s", version, model, error)


def _find_rollback(workspace: Workspace, model: str, run_id: str) -> HistoryEvent | None:
    for event in read_history(workspace, model):
        if event.event is EventType.ROLLED_BACK and event.run_id == run_id:
            return event
    return None


def _check_request(model: str, by: str, reason: str) -> tuple[str, str]:
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise RollbackRefused(f"A rollback of {model} needs a person and a reason; say why.", model=model)
    return by, reason


def _make_plan(
    workspace: Workspace, engine: MLEngine, model: str, to: str | None, run_id: str
) -> RollbackPlan:
    """Return the plan of a rollback.

    It is written down before anything changes: a retry of one that died in between would otherwise take what
    it has done already for the state to go back from.
    """
    uri = workspace.classifier(model).rollback(run_id)
    plan = RollbackPlan.find(workspace.storage, uri)
    if plan is None:
        previous = default_version(engine.get_model(model))
        version = to or find_rollback_target(workspace, engine, model)
        version = _require_target(engine, model, version, previous)
        plan = RollbackPlan(version=version, previous=previous)
        plan.write(workspace.storage, uri)
    return plan


def _require_target(engine: MLEngine, model: str, version: str | None, current: str | None) -> str:
    if version is None:
        raise RollbackRefused(
            f"{model} has no earlier version to roll back to. `graft versions {model}` lists what there "
            "is; `--to` takes any READY one.",
            model=model,
        )
    if version == current:
        raise RollbackRefused(f"Version {version} of {model} serves already.", model=model)
    if version not in _ready_versions(engine, model):
        raise RollbackRefused(
            f"{model} has no READY version {version}. `graft versions {model}` lists them.", model=model
        )
    return version


def _ready_versions(engine: MLEngine, model: str) -> set[str]:
    return {resource_id(each) for each in engine.list_versions(model) if each.get("state") == READY}
