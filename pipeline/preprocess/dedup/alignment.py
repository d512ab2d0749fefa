"""Alignment thumbnails: a picture as 24 x 24 gray levels, and how well one can be laid over another.

Two pictures are the same photograph when a small move, a small stretch and a change of brightness turn one
thumbnail into the other. What is left over afterwards is measured as a share of the picture's own contrast:
copies that were resized, recompressed, cropped by 2 % on every side or brightened by a fifth leave 0.04 or
less, different pictures of one subject taken from one place 0.08 or more.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 24
MARGIN = 1  # of the thumbnail's edge, where a crop has nothing to compare with
STEPS = 3  # of the Gauss-Newton search
MAX_MOVE = 0.06 * SIDE
GAINS = (0.4, 2.5)
NO_FIT = 9.0

_ROWS, _COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)
_CENTRE = (SIDE - 1) / 2
_DOWN, _RIGHT = (_ROWS - _CENTRE) / _CENTRE, (_COLUMNS - _CENTRE) / _CENTRE
_INNER = (slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))


def make_alignment_thumbnail(gray: Image.Image) -> str:
    """Return the alignment thumbnail of a picture of mode `L` as base64."""
    small = gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return base64.b64encode(small.tobytes()).decode()


def decode_alignment_thumbnail(text: str) -> NDArray[np.uint8]:
    """Return the levels of a thumbnail.

    Shapes:
        returns (24, 24) uint8.
    """
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIDE, SIDE)


def correlate(thumbnails: NDArray[np.uint8], one: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the correlation, -1 to 1, of each thumbnail with one: a cheap look before the fit.

    Shapes:
        thumbnails: (n, 24, 24).  one: (24, 24).  returns (n,).
    """
    many = thumbnails.reshape(len(thumbnails), SIDE * SIDE).astype(np.float64)
    many -= many.mean(axis=1, keepdims=True)
    levels = one.astype(np.float64).ravel()
    levels -= levels.mean()
    lengths = np.linalg.norm(many, axis=1) * np.linalg.norm(levels) + 1e-9
    correlations: NDArray[np.float64] = many @ levels / lengths
    return correlations


def align_thumbnails(
    moved: NDArray[np.uint8], still: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lay each first thumbnail over its second by moving, stretching and brightening it.

    Shapes:
        moved: (n, 24, 24).  still: (n, 24, 24).

    Returns:
        What is left over as a share of the second's variance, the gain and the offset in levels, (n,) each.
    """
    source, count, cells = moved.astype(np.float64), len(moved), (SIDE - 2 * MARGIN) ** 2
    wanted = still.astype(np.float64)[_INNER].reshape(count, cells)
    contrast = wanted.var(axis=1) * cells + 1e-9
    move = np.zeros((count, 4))  # right, stretch in width, down, stretch in height
    best, gain, offset = np.full(count, NO_FIT), np.ones(count), np.zeros(count)
    possible = np.ones(count, bool)
    for _ in range(STEPS):
        warped = _warp(source, move)
        down, right = np.gradient(warped, axis=1), np.gradient(warped, axis=2)
        parts = (
            warped,
            np.ones_like(warped),
            right,
            right * _RIGHT,
            down,
            down * _DOWN,
        )
        basis = np.stack([part[_INNER].reshape(count, cells) for part in parts], axis=2)
        solution = _least_squares(basis, wanted)
        errors: NDArray[np.float64] = wanted - (basis @ solution[..., None])[..., 0]
        left = (errors**2).sum(axis=1) / contrast
        possible &= (solution[:, 0] >= GAINS[0]) & (solution[:, 0] <= GAINS[1])
        better = possible & (left < best)
        best[better], gain[better], offset[better] = left[better], solution[better, 0], solution[better, 1]
        scale = np.where(possible, solution[:, 0], 1.0)[:, None]
        move = np.clip(move + solution[:, 2:] / scale, -MAX_MOVE, MAX_MOVE)
    return np.where(possible, best, NO_FIT), gain, offset


def _warp(source: NDArray[np.float64], move: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read every thumbnail at moved places, between its levels."""
    right, wide, down, high = (move[:, column, None, None] for column in range(4))
    x = np.clip(_COLUMNS + right + wide * _RIGHT, 0, SIDE - 1)
    y = np.clip(_ROWS + down + high * _DOWN, 0, SIDE - 1)
    left, top = np.minimum(x.astype(np.intp), SIDE - 2), np.minimum(y.astype(np.intp), SIDE - 2)
    x, y = x - left, y - top
    each = np.arange(len(source))[:, None, None]
    upper = source[each, top, left] * (1 - x) + source[each, top, left + 1] * x
    lower = source[each, top + 1, left] * (1 - x) + source[each, top + 1, left + 1] * x
    warped: NDArray[np.float64] = upper * (1 - y) + lower * y
    return warped


def _least_squares(basis: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    turned = basis.transpose(0, 2, 1)
    normal = turned @ basis
    size = normal.max(axis=(1, 2), initial=0, keepdims=True)
    normal = normal + np.eye(normal.shape[-1]) * (1e-9 * size + 1e-9)
    solution: NDArray[np.float64] = np.linalg.solve(normal, turned @ wanted[..., None])[..., 0]
    return solution
