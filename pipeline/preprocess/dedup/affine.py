"""Laying one picture over another by an affine move: crops of any size, small turns, stretches.

A move takes places of the target to places of the source, both from -1 to 1 across the picture, as
`(xx, xy, yx, yy, x, y)`: the target's (u, v) lies at (xx u + xy v + x, yx u + yy v + y) of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import BoolArray, FloatArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAINS = (0.4, 2.5)
NO_FIT = 9.0
MIN_OVERLAP = 0.6  # of the target's pixels
MAX_STEP = 0.1  # of half a side
BLUR = 1 / 6  # variance of the filter that makes one pixel of one, in pixels: Pillow's BILINEAR
_INTERPOLATION = 0.12  # variance that reading between pixels adds


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineFit:
    """The best move of each pair.

    Args:
        left_over: What it does not explain, as a share of the target's variance; `NO_FIT` without a move.
        move: The move.
        gain: Times the source's levels.
        offset: And so many levels more.

    Shapes:
        left_over, gain, offset: (n,).  move: (n, 6).
    """

    left_over: FloatArray
    move: FloatArray
    gain: FloatArray
    offset: FloatArray


def crop_move(share: float) -> FloatArray:
    """Return the move to a picture whose sides were cut by a share each."""
    scale = 1 - 2 * share
    return np.array([scale, 0, 0, scale, 0, 0], np.float64)


def scale_of(move: FloatArray) -> FloatArray:
    """Return the mean scale of each move: how much of the source's side the target shows."""
    return np.sqrt(np.abs(move[:, 0] * move[:, 3] - move[:, 1] * move[:, 2]))


def blur_for(source: NDArray[np.float32], ratio: FloatArray) -> NDArray[np.float32]:
    """Blur each source so that read at `ratio` of its own pixels it is as sharp as a resized picture.

    Shapes:
        source: (n, side, side).  ratio: (n,).
    """
    variance = np.maximum(BLUR * np.maximum(ratio, 1.0) ** 2 - _INTERPOLATION, 0.01)
    blurs = np.stack([gaussian_matrix(source.shape[1], sigma) for sigma in np.sqrt(variance)])
    blurred: NDArray[np.float32] = (blurs @ source @ blurs.transpose(0, 2, 1)).astype(np.float32)
    return blurred


def gaussian_matrix(side: int, sigma: float) -> FloatArray:
    """Return the matrix that blurs a row: a Gaussian cut off at four sigmas, the row mirrored at its ends.

    It does as `scipy.ndimage.gaussian_filter`, whose import costs more than all blurs of a dataset.

    Shapes:
        returns (side, side).
    """
    radius = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    period = 2 * side
    places = (np.arange(side)[:, None] + np.arange(-radius, radius + 1)) % period
    places = np.where(places < side, places, period - 1 - places)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], places), taps / taps.sum())
    return matrix


def read_moved(source: FloatArray, move: FloatArray, side: int) -> tuple[FloatArray, BoolArray]:
    """Return what each move shows of its source, and which pixels lie within it.

    Shapes:
        source: (n, rows, rows) or (n, rows, rows, channels).  move: (n, 6).
        returns (n, side, side) with the source's channels; (n, side, side).
    """
    rows, (down, right) = source.shape[1], _grid(side)
    xx, xy, yx, yy, x, y = move.T[:, :, None, None]
    columns = (xx * right + xy * down + x + 1) / 2 * rows - 0.5
    lines = (yx * right + yy * down + y + 1) / 2 * rows - 0.5
    inside = (abs(columns - (rows - 1) / 2) <= rows / 2) & (abs(lines - (rows - 1) / 2) <= rows / 2)
    columns, lines = np.clip(columns, 0, rows - 1), np.clip(lines, 0, rows - 1)
    left, top = np.minimum(columns.astype(np.intp), rows - 2), np.minimum(lines.astype(np.intp), rows - 2)
    channels = (slice(None),) * 3 + (None,) * (source.ndim - 3)
    columns, lines = (columns - left)[channels], (lines - top)[channels]
    each = np.arange(len(source))[:, None, None]
    upper = source[each, top, left] * (1 - columns) + source[each, top, left + 1] * columns
    lower = source[each, top + 1, left] * (1 - columns) + source[each, top + 1, left + 1] * columns
    return upper * (1 - lines) + lower * lines, inside


def fit_affine(source: FloatArray, target: FloatArray, move: FloatArray, *, steps: int) -> AffineFit:
    """Lay each source over its target, starting from a move, by Gauss-Newton steps.

    Shapes:
        source: (n, rows, rows).  target: (n, side, side).  move: (n, 6).
    """
    count, side = len(target), target.shape[1]
    best = AffineFit(
        left_over=np.full(count, NO_FIT), move=move.copy(), gain=np.ones(count), offset=np.zeros(count)
    )
    for _ in range(steps + 1):
        moved, inside = read_moved(source, move, side)
        inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
        basis, wanted = _basis(moved, inside), (target * inside).reshape(count, -1, 1)
        turned = basis.transpose(0, 2, 1)
        normal, right = turned @ basis, (turned @ wanted)[..., 0]
        _keep_better(best, _solve(normal[:, :2, :2], right[:, :2]), normal, right, wanted, move)
        move = _compose(move, _solve(normal, right))
    return best


def _keep_better(
    best: AffineFit,
    levels: FloatArray,
    normal: FloatArray,
    right: FloatArray,
    wanted: FloatArray,
    move: FloatArray,
) -> None:
    """Remember the moves that leave less over than any before, with their gain and offset."""
    pixels = np.maximum(normal[:, 1, 1], 1)
    power = (wanted[..., 0] ** 2).sum(axis=1)
    variance = power - right[:, 1] ** 2 / pixels + 1e-9
    explained = 2 * (levels * right[:, :2]).sum(axis=1)
    explained -= np.einsum("ni,nij,nj->n", levels, normal[:, :2, :2], levels)
    left_over = np.maximum(power - explained, 0) / variance
    fits = (levels[:, 0] >= GAINS[0]) & (levels[:, 0] <= GAINS[1])
    fits &= (pixels >= MIN_OVERLAP * wanted.shape[1]) & (left_over < best.left_over)
    best.left_over[fits], best.move[fits] = left_over[fits], move[fits]
    best.gain[fits], best.offset[fits] = levels[fits].T


def _grid(side: int) -> tuple[FloatArray, FloatArray]:
    places = (np.arange(side) + 0.5) / side * 2 - 1
    return places[:, None], places[None, :]


def _basis(moved: FloatArray, inside: BoolArray) -> FloatArray:
    """Return how the target's pixels change with gain, offset and the six numbers of a move."""
    count, side = len(moved), moved.shape[1]
    down, right = _grid(side)
    across = np.gradient(moved, axis=2) * (side / 2)
    along = np.gradient(moved, axis=1) * (side / 2)
    parts = (
        moved,
        np.ones_like(moved),
        *(across, across * right, across * down),
        *(along, along * right, along * down),
    )
    return (np.stack(parts, axis=-1) * inside[..., None]).reshape(count, side * side, 8)


def _solve(normal: FloatArray, right: FloatArray) -> FloatArray:
    size = normal.max(axis=(1, 2), initial=0, keepdims=True)
    damped = normal + np.eye(normal.shape[-1]) * (1e-7 * size + 1e-9)
    solution: FloatArray = np.linalg.solve(damped, right[..., None])[..., 0]
    return solution


def _compose(move: FloatArray, solution: FloatArray) -> FloatArray:
    """Return the moves after a step: first within the target, then to the source."""
    gain = np.where(np.abs(solution[:, :1]) > 0.2, solution[:, :1], 1.0)
    step = np.clip(solution[:, 2:] / gain, -MAX_STEP, MAX_STEP)
    matrix = move[:, :4].reshape(-1, 2, 2)
    change = step.reshape(-1, 2, 3)  # of u and v, each as (constant, by u, by v)
    moved = matrix @ (np.eye(2) + change[:, :, 1:])
    shift = move[:, 4:] + (matrix @ change[:, :, :1])[..., 0]
    return np.concatenate([moved.reshape(-1, 4), shift], axis=1)
