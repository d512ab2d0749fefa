"""The training pictures that a model keeps to tell what is unlike them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.tflite.head import feature_direction
from pipeline.tflite.novelty import DIRECTIONS, STEPS, Novelty, nearest_distances, unit_rows
from pipeline.types import Float32Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PICTURES = 20_000  # so many are looked at: more cost time and move no quantile
_ROWS = 4096  # of a block of cosines


def build_novelty(features: Float32Features, ids: Sequence[str], groups: Mapping[str, str]) -> Novelty:
    """Choose directions, and measure how far training pictures are from those of the others.

    A picture is compared with no picture of its own group, so that near duplicates do not make new pictures
    look strange.

    Args:
        features: Pooled features of the training pictures, unaltered.
        ids: Their ids.
        groups: Name of the group of each picture that shares one; any other is its own.

    Shapes:
        features: (num_images, feature_width).
    """
    rows = _sample(ids)
    features = features[rows]
    names = [groups.get(ids[row], ids[row]) for row in rows]
    units = unit_rows(features)
    chosen = choose_spread(units, DIRECTIONS)
    directions = np.zeros((DIRECTIONS, features.shape[1]), np.uint8)
    directions[: len(chosen)] = feature_direction(features[chosen])
    values = _leave_group_out(units, unit_rows(directions), np.unique(names, return_inverse=True)[1], chosen)
    quantiles = np.quantile(values, np.linspace(0, 1, STEPS + 1)).astype(np.float32)
    return Novelty(directions=directions, quantiles=quantiles)


def choose_spread(units: NDArray[np.float32], number: int) -> NDArray[np.intp]:
    """Return rows that leave no other far away: each next one is the farthest from those before."""
    if len(units) <= number:
        return np.arange(len(units))
    chosen = [int((units @ units.mean(0)).argmax())]
    nearest = units @ units[chosen[0]]
    while len(chosen) < number:
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
    return np.array(chosen)


def _sample(ids: Sequence[str]) -> NDArray[np.intp]:
    if len(ids) <= MAX_PICTURES:
        return np.arange(len(ids))
    order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(f"novelty {ids[row]}".encode()).digest())
    return np.array(sorted(order[:MAX_PICTURES]))


def _leave_group_out(
    units: NDArray[np.float32],
    directions: NDArray[np.float32],
    groups: NDArray[np.intp],
    chosen: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Return the distance of each picture to the directions that are not of its group."""
    parts = []
    for start in range(0, len(units), _ROWS):
        cosines = units[start : start + _ROWS] @ directions.T
        own = groups[start : start + _ROWS, None] == groups[chosen]
        cosines[:, : len(chosen)][own] = 0
        parts.append(nearest_distances(cosines))
    return np.concatenate(parts)
