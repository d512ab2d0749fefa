"""Registers again with the engine what the workspace holds: models, versions and which of them serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pipeline.artifacts.history import HistoryEvent, read_intact_history, served_before, serving_periods
from pipeline.artifacts.model_record import read_lineage
from pipeline.artifacts.record import Record
from pipeline.artifacts.registration import Registration, find_registration
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.staging import is_staging
from pipeline.errors import PlatformError
from pipeline.ml_engine.protocol import MLEngine, default_version, label_value, resource_id
from pipeline.ml_engine.resources import Model, Version
from pipeline.ml_v1 import RUNTIME_VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltModel(Record):
    """What was done for one model.

    Args:
        model: The model.
        registered: Versions that the engine did not have.
        kept: Versions that it had.
        failed: Versions that could not be registered, with the reason; their files stay as they are.
        default: The version that serves now.
        lost_default: The version that served last, if it is not the one that serves now.
        damaged: What is wrong with each event of the history that cannot be read, and so was not heeded.
    """

    model: str
    registered: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, str]
    default: str | None
    lost_default: str | None = None
    damaged: tuple[str, ...] = ()


def unregistered_versions(workspace: Workspace, engine: MLEngine) -> dict[str, list[str]]:
    """Return the versions of the workspace that the engine does not know.

    A folder beside the versions of a known model is one of them only if the engine has a record of it.
    """
    stored, copies = workspace.list_models(), workspace.list_copies()
    models = {resource_id(model) for model in engine.list_models()}
    lost = {}
    for model, versions in stored.items():
        if is_staging(model):
            continue
        versions_there = engine.list_versions(model) if model in models else []
        registered = {resource_id(version) for version in versions_there}
        candidates = [name for name in versions if model not in models or name in copies.get(model, ())]
        if missing := [name for name in candidates if name not in registered]:
            lost[model] = missing
    return lost


def rebuild_engine(workspace: Workspace, engine: MLEngine) -> Iterator[RebuiltModel]:
    """Register every version of the workspace that the engine lacks; may be repeated at any time.

    No object of the workspace is changed: a version is registered where its files are.
    """
    for model, versions in workspace.list_models().items():
        yield _rebuild_model(workspace, engine, model, versions)


def _rebuild_model(workspace: Workspace, engine: MLEngine, model: str, versions: list[str]) -> RebuiltModel:
    registration = find_registration(workspace, model)
    if registration.model:
        engine.create_model(cast("Model", {**registration.model, "name": model}))
    else:
        engine.ensure_model(model)
    states = {resource_id(version): version.get("state") for version in engine.list_versions(model)}
    kept = [name for name in versions if states.get(name, "FAILED") != "FAILED"]
    history, damaged = read_intact_history(workspace, model)
    served = _with_default(served_before(history), registration.default_version, kept)
    candidates = [name for name in _by_preference(served, history) if name in versions]
    failed: dict[str, str] = {}
    for name in dict.fromkeys([*candidates, *sorted(versions)]):  # the first one registered serves
        if name not in kept:
            try:
                engine.create_version(model, _version_body(workspace, model, name, registration))
            except PlatformError as error:
                log.warning("Version %s of %s is not registered: %s", name, model, error.message)
                failed[name] = error.message
    default = _set_default(engine, model, [name for name in candidates if name not in failed])
    return RebuiltModel(
        model=model,
        registered=tuple(name for name in versions if name not in kept and name not in failed),
        kept=tuple(kept),
        failed=failed,
        default=default,
        lost_default=served[-1] if served and served[-1] != default else None,
        damaged=damaged,
    )


def _set_default(engine: MLEngine, model: str, candidates: list[str]) -> str | None:
    """Make the first candidate the default; return the version that serves then."""
    if candidates and default_version(engine.get_model(model)) != candidates[0]:
        engine.set_default(model, candidates[0])
    return default_version(engine.get_model(model))


def _with_default(served: list[str], default: str | None, kept: list[str]) -> list[str]:
    """Return the versions that served, the engine's default last, also one that was set without Graft.

    What was promoted after the database was lost stays the default.
    """
    was_promoted_since = bool(served) and served[-1] in kept and default not in kept
    if default is None or was_promoted_since:
        return served
    return [*(name for name in served if name != default), default]


def _by_preference(served: list[str], history: list[HistoryEvent]) -> list[str]:
    """Return what may serve, best first: as a rollback would go back, then what a rollback took back."""
    taken_back = [period.version for period in serving_periods(history)]
    return list(dict.fromkeys([*reversed(served), *reversed(taken_back)]))


def _version_body(workspace: Workspace, model: str, name: str, registration: Registration) -> Version:
    """Return the version as it was; only its files are taken from where the engine's copy of them is."""
    directory = workspace.model(model, name)
    if name in registration.versions:
        return cast("Version", {**registration.versions[name], "name": name, "deploymentUri": directory.uri})
    body: Version = {
        "name": name,
        "deploymentUri": directory.uri,
        "runtimeVersion": RUNTIME_VERSION,
        "pythonVersion": "3.11",
        "framework": "TENSORFLOW",
        "description": "Registered again from the bucket.",
    }
    if lineage := read_lineage(directory):
        labels = {"run": lineage.run_id, "dataset": lineage.dataset.version, "job": lineage.training.job}
        body["labels"] = {key: label_value(value) for key, value in labels.items()}
    return body
