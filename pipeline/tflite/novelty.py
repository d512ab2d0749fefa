"""Novelty: how unlike everything it was trained on a picture is, in NumPy.

A model keeps the directions of some of its training pictures' features. The distance of a picture is one less
its mean cosine to the nearest of them, and its novelty is the share of training pictures that are nearer to
the others than it is. So novelty is on one scale for all models: 0.99 is less like the training pictures than
99 in 100 of them are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.npz import ArraySpec, NpzSource, read_npz
from pipeline.types import Float32Features

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEAREST = 5
DIRECTIONS = 512
STEPS = 100  # of the quantiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Novelty:
    """What `graft/novelty.npz` holds.

    Args:
        directions: Features of training pictures, each row scaled to 255; rows of zeros fill it up.
        quantiles: The distances of training pictures, each without the pictures of its own group.

    Shapes:
        directions: (512, feature_width) uint8.  quantiles: (101,) float32.
    """

    directions: NDArray[np.uint8]
    quantiles: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.uint8] | NDArray[np.float32]]:
        """Return the arrays by name."""
        return {"directions": self.directions, "quantiles": self.quantiles}


class NoveltyScorer:
    """Scores pictures with the directions kept as unit vectors.

    Args:
        novelty: The directions and quantiles of a model.
    """

    def __init__(self, novelty: Novelty) -> None:
        self._units, self._quantiles = unit_rows(novelty.directions), novelty.quantiles

    def score(self, pooled: Float32Features) -> NDArray[np.float32]:
        """Return the novelty of pictures, 0 to 1, as the SavedModel does.

        Shapes:
            pooled: (num_images, feature_width).  returns: (num_images,).
        """
        return share_below(self._quantiles, nearest_distances(unit_rows(pooled) @ self._units.T))


def read_novelty(source: NpzSource) -> Novelty:
    """Read `graft/novelty.npz`.

    Raises:
        BadArchive: if the file is another archive.
    """
    schema = {
        "directions": ArraySpec(kinds="u", shape=(DIRECTIONS, None), itemsize=1),
        "quantiles": ArraySpec(kinds="f", shape=(STEPS + 1,), itemsize=4),
    }
    arrays = read_npz(source, schema)
    return Novelty(directions=arrays["directions"], quantiles=arrays["quantiles"])


def unit_rows(rows: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of length one; a row of zeros stays."""
    values = rows.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = values / np.maximum(lengths, np.float32(1e-12))
    return unit


def nearest_distances(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one less the mean of the largest cosines of each row."""
    nearest = np.partition(cosines, -NEAREST, axis=1)[:, -NEAREST:]
    result: NDArray[np.float32] = 1 - nearest.mean(1, dtype=np.float32)
    return result


def share_below(quantiles: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of a distribution below each value, between its quantiles in proportion."""
    above = np.clip(np.searchsorted(quantiles, values), 1, STEPS)
    low, high = quantiles[above - 1], quantiles[above]
    part = np.clip((values - low) / np.maximum(high - low, np.float32(1e-12)), 0, 1)
    share: NDArray[np.float32] = ((above - 1 + part) / STEPS).astype(np.float32)
    return share
