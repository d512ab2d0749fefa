"""Rolls a model back: an older version gets the traffic at once; the history says who wants it and why."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from pipeline.artifacts.history import HistoryEvent, read_history, record_event, served_before
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import ObjectNotFound, PlatformError, RollbackRefused, StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version, resource_id
from pipeline.storage import Storage
from pipeline.types import JsonDict, JsonValue

log = logging.getLogger(__name__)

READY = "READY"
# The smallest picture there is: it is asked to load a version, not for what is on it.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
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

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)


def find_rollback_target(engine: MLEngine, storage: Storage, workspace: str, model: str) -> str | None:
    """Return the version that a rollback goes to unless one is named; None where there is none.

    It is the last one that served before the present default and still is READY.
    """
    current = default_version(engine.get_model(model))
    ready = _ready_versions(engine, model)
    earlier = served_before(read_history(storage, workspace, model))
    if current in earlier:
        earlier = earlier[: earlier.index(current)]
    return next((version for version in reversed(earlier) if version in ready and version != current), None)


def rollback_version(
    engine: MLEngine,
    storage: Storage,
    workspace: str,
    *,
    model: str,
    by: str,
    reason: str,
    to: str | None = None,
    run_id: str | None = None,
) -> Rollback:
    """Give an older version the traffic and record it; promotions and rollbacks of a model take turns.

    The version is loaded before the traffic turns to it, if it is not kept warm anyway.

    Args:
        engine: Where the model lives.
        storage: Where history and turns are.
        workspace: The bucket of the classifier.
        model: Name of the model.
        by: Who wants it.
        reason: Why; kept in the history.
        to: The version; the one that served before unless given.
        run_id: What asks for it; with the same one it happens once only. A new one unless given.

    Raises:
        RollbackRefused: if there is nothing to go back to, the version is not READY or serves already, or
            nobody or no reason is named.
        StorageError: if ML Engine was so slow that the turn ran out; safe to retry.
    """
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise RollbackRefused(f"A rollback of {model} needs a person and a reason; say why.", model=model)
    run_id = run_id or f"rollback__{uuid.uuid4().hex[:12]}"
    with acquire_lock(storage, workspace, model) as lock:
        history = read_history(storage, workspace, model)
        for event in history:
            if event["event"] == HistoryEvent.ROLLED_BACK and event["run_id"] == run_id:
                return _as_rollback(model, event)
        version, previous = _make_plan(engine, storage, workspace, model, to, run_id)
        wake_version(engine, model, version)
        if not lock.is_valid:
            raise StorageError(f"The turn to roll {model} back to {version} ran out; try again.")
        engine.set_default(model, version)
        said = {"previous": previous, "run_id": run_id, "by": by, "decided_by": by, "reason": reason}
        event = {"event": str(HistoryEvent.ROLLED_BACK), "version": version, **said}
        event = record_event(storage, workspace, model, event)
    log.info("%s serves %s, no longer %s: %s (%s)", model, version, previous, reason, by)
    return _as_rollback(model, event)


def wake_version(engine: MLEngine, model: str, version: str) -> None:
    """Make sure that a version is loaded, so that traffic never waits for it.

    Raises:
        PlatformUnavailable: if it does not come up; safe to retry.
    """
    instance: list[JsonValue] = [{"inputs": {"b64": base64.b64encode(PIXEL).decode()}}]
    try:
        engine.predict(model, instance, version=version)
    except PlatformError as error:
        if error.transient:
            raise
        log.info("version %s of %s is loaded, but takes no picture: %s", version, model, error)


def _make_plan(
    engine: MLEngine, storage: Storage, workspace: str, model: str, to: str | None, run_id: str
) -> tuple[str, str | None]:
    """Return the version to go to and the one that serves, as they were when this was first asked.

    They are written down before anything changes: a retry of one that died in between would otherwise take
    what it has done already for the state to go back from.
    """
    uri = f"{workspace}/classifiers/{model}/rollbacks/{quote(run_id, safe='')}.json"
    try:
        plan = storage.read_json(uri)
        return plan["version"], plan["previous"]
    except ObjectNotFound:
        previous = default_version(engine.get_model(model))
        version = to or find_rollback_target(engine, storage, workspace, model)
        version = _require_target(engine, model, version, previous)
        storage.write_json(uri, {"version": version, "previous": previous})
        return version, previous


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
    return {resource_id(found) for found in engine.list_versions(model) if found.get("state") == READY}


def _as_rollback(model: str, event: Mapping[str, Any]) -> Rollback:
    names = ("version", "previous", "by", "reason", "run_id", "at")
    return Rollback(model=model, **{name: event[name] for name in names})
