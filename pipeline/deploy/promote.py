"""Gives a version the traffic, unless somebody else changed the default in the meantime."""

from __future__ import annotations

import logging

from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import acquire_lock
from pipeline.errors import StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version

log = logging.getLogger(__name__)


def promote_version(
    workspace: Workspace, engine: MLEngine, *, model: str, version: str, champion: str | None
) -> Promotion:
    """Make a version the default if the default still is the champion that it was compared with.

    The first version of a model already is the default: v1 makes it so. Promotions of a model hold a lock, so
    of two that were compared with the same champion the second finds the first and is superseded. A person
    who calls `setDefault` past Graft holds no lock.

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
        if current == version:
            return Promotion.PROMOTED
        if current == champion:
            if not lock.is_valid:
                raise StorageError(f"The lock to promote {version} of {model} ran out; try again.")
            engine.set_default(model, version)
            return Promotion.PROMOTED
    log.warning("default of %s is %s, no longer %s: %s is superseded", model, current, champion, version)
    engine.delete_version(model, version)
    return Promotion.SUPERSEDED
