"""Gives a version the traffic, unless somebody else changed the default in the meantime."""

from __future__ import annotations

import logging

from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import acquire_lock
from pipeline.deploy.staging import (
    create_first_version,
    discard_staged,
    discard_version,
    staging_model,
)
from pipeline.errors import StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version

log = logging.getLogger(__name__)


def promote_version(
    workspace: Workspace, engine: MLEngine, *, model: str, version: str, champion: str | None
) -> Promotion:
    """Make a version the default if the default still is the champion that it was compared with.

    The first version of a model is created in it here, after its smoke test; v1 then makes it the default.
    Promotions of a model hold a lock, so of two that were compared with the same champion the second finds
    the first and is superseded. A person who calls `setDefault` past Graft holds no lock.

    Args:
        workspace: Where the lock is.
        engine: Where the model lives.
        model: Name of the model.
        version: The candidate.
        champion: The default version when the candidate was evaluated, None when there was none.

    Returns:
        PROMOTED, or SUPERSEDED with the candidate deleted.

    Raises:
        StorageError: if ML Engine was so slow that the lock ran out; safe to retry.
    """
    with acquire_lock(workspace, model, holder=f"promote {version}") as lock:
        current = default_version(engine.get_model(model))
        if current != version and current == champion:
            if not lock.is_valid:
                raise StorageError(f"The lock to promote {version} of {model} ran out; try again.")
            current = _make_default(engine, model, version, is_first=champion is None)
    if current == version:
        discard_staged(engine, staging_model(model), version)
        return Promotion.PROMOTED
    log.warning("default of %s is %s, no longer %s: %s is superseded", model, current, champion, version)
    discard_version(engine, model, version)
    return Promotion.SUPERSEDED


def _make_default(engine: MLEngine, model: str, version: str, *, is_first: bool) -> str | None:
    """Return which version serves now."""
    if is_first:
        return create_first_version(engine, model, version)
    engine.set_default(model, version)
    return version
