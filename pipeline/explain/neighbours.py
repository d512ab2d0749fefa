"""The training pictures that a picture resembles, and those that share its strongest channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.explain.features import CachedFeatures
from pipeline.types import Float32Features


def nearest_pictures(
    cached: CachedFeatures, directions: Mapping[str, Sequence[float] | Float32Features], number: int
) -> dict[str, list[tuple[str, float]]]:
    """Return for each test picture the training pictures most like it, with the cosine between."""
    if not directions:
        return {}
    lengths = np.maximum(np.linalg.norm(cached.features, axis=1), 1e-12)
    nearest = {}
    for key, values in directions.items():
        direction = np.asarray(values, np.float32)
        cosines = cached.features @ (direction / max(float(np.linalg.norm(direction)), 1e-12)) / lengths
        rows = np.argsort(-cosines, kind="stable")[:number]
        nearest[key] = [(cached.ids[row], float(cosines[row])) for row in rows]
    return nearest


def strongest_channels(values: Float32Features, number: int) -> list[tuple[int, float]]:
    """Return the strongest channels of a picture's features, each with its value."""
    return [(int(channel), float(values[channel])) for channel in np.argsort(-values, kind="stable")[:number]]


def brightest_pictures(cached: CachedFeatures, channel: int, number: int) -> list[tuple[str, float]]:
    """Return the training pictures with the highest values of a channel, each with its value."""
    column = cached.features[:, channel]
    return [(cached.ids[row], float(column[row])) for row in np.argsort(-column, kind="stable")[:number]]
