"""Gives a version the traffic, unless somebody else changed the default in the meantime."""

from __future__ import annotations

import logging
from enum import StrEnum

from pipeline.ml_engine.protocol import MLEngine, default_version

log = logging.getLogger(__name__)


class Promotion(StrEnum):
    """How a promotion ended."""

    PROMOTED = "promoted"
    SUPERSEDED = "superseded"


def promote_version(engine: MLEngine, *, model: str, version: str, champion: str | None) -> Promotion:
    """Make a version the default if the default still is the champion that it was compared with.

    The first version of a model already is the default: v1 makes it so. v1 has no compare-and-set, so a
    default changed between the look and `setDefault` is overwritten; one run at a time keeps that to people
    and rollbacks.

    Args:
        engine: Where the model lives.
        model: Name of the model.
        version: The candidate.
        champion: The default version when the candidate was evaluated, None when there was none.

    Returns:
        PROMOTED, or SUPERSEDED with the candidate deleted.
    """
    current = default_version(engine.get_model(model))
    if current == version:
        return Promotion.PROMOTED
    if current == champion:
        engine.set_default(model, version)
        return Promotion.PROMOTED
    log.warning("default of %s is %s, no longer %s: %s is superseded", model, current, champion, version)
    engine.delete_version(model, version)
    return Promotion.SUPERSEDED
