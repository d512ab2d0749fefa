"""The cached features of training pictures, and which of them a test picture resembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ObjectNotFound
from pipeline.npz import ArraySpec, read_npz
from pipeline.storage import Storage
from pipeline.types import Float32Features

MAX_PICTURES = 20_000  # 100 MB of features; the report says when there are more
_SCHEMA = {"ids": ArraySpec(kinds="S", shape=(None,)), "features": ArraySpec(kinds="f", shape=(None, None))}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFeatures:
    """Features of training pictures.

    Args:
        ids: Ids of the pictures.
        features: One row a picture.
    """

    ids: tuple[str, ...]
    features: Float32Features


def read_features(
    storage: Storage, uris: Sequence[str], *, wanted: Mapping[str, Any]
) -> CachedFeatures | None:
    """Read the cached features of the wanted pictures, at most twenty thousand; None where none is left."""
    ids: list[str] = []
    parts = []
    for uri in uris:
        try:
            arrays = read_npz(storage.local_path(uri), _SCHEMA)
        except ObjectNotFound:
            continue
        names = [name.decode() for name in arrays["ids"]]
        rows = [row for row, name in enumerate(names) if name in wanted][: MAX_PICTURES - len(ids)]
        ids += [names[row] for row in rows]
        parts.append(arrays["features"][rows])
    if not ids:
        return None
    return CachedFeatures(ids=tuple(ids), features=np.concatenate(parts))


def nearest_pictures(
    cached: CachedFeatures, directions: Mapping[str, Sequence[float]], number: int
) -> dict[str, list[tuple[str, float]]]:
    """Return for each test picture the training pictures most like it, with the cosine between."""
    if not directions:
        return {}
    lengths = np.maximum(np.linalg.norm(cached.features, axis=1), 1e-12)
    found = {}
    for key, values in directions.items():
        direction = np.asarray(values, np.float32)
        cosines = cached.features @ (direction / max(float(np.linalg.norm(direction)), 1e-12)) / lengths
        nearest = np.argsort(-cosines, kind="stable")[:number]
        found[key] = [(cached.ids[row], float(cosines[row])) for row in nearest]
    return found


def strongest_channels(direction: Sequence[float], number: int) -> list[tuple[int, float]]:
    """Return the strongest channels of a picture's features, each with its value."""
    values = np.asarray(direction, np.float32)
    return [(int(channel), float(values[channel])) for channel in np.argsort(-values, kind="stable")[:number]]


def brightest_pictures(cached: CachedFeatures, channel: int, number: int) -> list[tuple[str, float]]:
    """Return the training pictures that light a channel most, with its value in each."""
    column = cached.features[:, channel]
    return [(cached.ids[row], float(column[row])) for row in np.argsort(-column, kind="stable")[:number]]
