"""Candidates for altered copies: pictures whose low frequencies agree after a turn, a flip or a crop.

The cosine transform of a thumbnail is turned and flipped by changing places and signs, so that only crops are
computed. One matrix product for each compares a picture with all others. It proposes; it does not decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.preprocess.dedup.alignment import SIDE
from pipeline.types import BoolArray, IntArray, UInt8Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROPS = (0.0, 0.1, 0.2)  # share cut off each side; what lies between is near one of them
FREQUENCIES = 7  # of rows and columns together, at most
EMPHASIS = 0.25  # high frequencies are weaker in photographs
MIN_COSINE = 0.75
NEAREST = 6  # pictures that one picture is compared with, at most
TURNS = 8
BLOCK_CELLS = 2**18  # pairs of pictures that are compared at a time: what fits the cache of a core


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Two pictures that may be copies, and how one may be laid over the other.

    Args:
        one: Row of the later picture.
        other: Row of the earlier one.
        turn: How the later one is turned, for `turn_picture`.
        crop: Share that was cut off each side.
        is_one_larger: True if the earlier picture is the crop.
    """

    one: int
    other: int
    turn: int
    crop: float
    is_one_larger: bool


def turn_picture(picture: UInt8Image, turn: int) -> UInt8Image:
    """Return one of the eight flips and rotations of a picture; 0 leaves it as it is."""
    turned = picture.swapaxes(0, 1) if turn & 4 else picture
    turned = turned[::-1] if turn & 1 else turned
    return turned[:, ::-1] if turn & 2 else turned


def find_candidates(
    thumbnails: NDArray[np.uint8], compared: BoolArray, *, turned: bool = True
) -> Iterator[Candidate]:
    """Yield the nearest of the earlier pictures for each one that is to be compared.

    Args:
        thumbnails: Alignment thumbnails, in the order the pictures were seen.
        compared: Which pictures are to be compared; those that are not count as earlier.
        turned: Whether to look for turned and flipped copies.

    Shapes:
        thumbnails: (n, 24, 24).  compared: (n,).
    """
    order = np.concatenate([np.flatnonzero(~compared), np.flatnonzero(compared)])
    described, first = _describe(thumbnails[order]), int((~compared).sum())
    columns = np.ascontiguousarray(described.transpose(0, 2, 1))
    signs, places = _turns()
    num_turns = TURNS if turned else 1
    while first < len(order):
        last = min(len(order), first + max(16, BLOCK_CELLS // max(first, 1024)))
        rows = described[:, first:last]
        with threadpool_limits(limits=1, user_api="blas"):  # threads of BLAS wait for each other longer
            best = _best_cosines(rows, columns[:, :, :last], signs[:num_turns], places[:num_turns])
        for row, column in _nearest(best, first):
            one = described[:, first + row]
            views = one[:, places[:num_turns]] * signs[:num_turns]
            yield _candidate(views, described[:, column], int(order[first + row]), int(order[column]))
        first = last


def _describe(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the low frequencies of each picture and of its crops, of length one.

    Shapes:
        thumbnails: (n, 24, 24).  returns (crops, n, frequencies).
    """
    levels = thumbnails.astype(np.float32)
    rows, columns = _frequencies()
    weights = ((rows**2 + columns**2) ** EMPHASIS).astype(np.float32)
    crops = [(waves @ levels @ waves.T)[:, rows, columns] * weights for waves in map(_crop_waves, CROPS)]
    described: NDArray[np.float32] = np.stack(crops).astype(np.float32)
    described /= np.linalg.norm(described, axis=2, keepdims=True) + 1e-6
    return described


def _crop_waves(share: float) -> NDArray[np.float32]:
    """Return the cosine waves across a crop, over the rows of the whole thumbnail.

    Shapes:
        returns (frequencies + 1, 24).
    """
    places = (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(np.pi * np.arange(FREQUENCIES + 1)[:, None] * places)
    waves[1:] *= 2**0.5
    rows = np.clip((share + (1 - 2 * share) * places) * SIDE - 0.5, 0, SIDE - 1)
    reads = np.maximum(0, 1 - np.abs(rows[:, None] - np.arange(SIDE)))  # between two rows
    crop: NDArray[np.float32] = (waves @ reads).astype(np.float32)
    return crop


def _frequencies() -> tuple[IntArray, IntArray]:
    rows, columns = np.mgrid[: FREQUENCIES + 1, : FREQUENCIES + 1]
    chosen = (rows + columns > 0) & (rows + columns <= FREQUENCIES)
    return rows[chosen], columns[chosen]


def _turns() -> tuple[NDArray[np.float32], IntArray]:
    """Return signs and places of the frequencies after each turn.

    Shapes:
        (8, frequencies) each.
    """
    rows, columns = _frequencies()
    place = {pair: number for number, pair in enumerate(zip(rows.tolist(), columns.tolist(), strict=True))}
    transposed = np.array([place[column, row] for row, column in place])
    signs = [(-1.0) ** (rows * (turn & 1) + columns * (turn >> 1 & 1)) for turn in range(TURNS)]
    places = [transposed if turn & 4 else np.arange(len(rows)) for turn in range(TURNS)]
    return np.stack(signs).astype(np.float32), np.stack(places)


def _best_cosines(
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    signs: NDArray[np.float32],
    places: IntArray,
) -> NDArray[np.float32]:
    """Return the largest cosine of each picture of a block with each up to it, over turns and crops.

    Shapes:
        rows: (crops, block, frequencies).  columns: (crops, frequencies, n).  returns (block, n).
    """
    best = np.full((rows.shape[1], columns.shape[2]), -1, np.float32)
    cosines = np.empty_like(best)
    whole, *crops = columns
    for sign, place in zip(signs, places, strict=True):
        views = rows[:, :, place] * sign
        for view in views:
            np.maximum(best, np.matmul(view, whole, out=cosines), out=best)
        for crop in crops:
            np.maximum(best, np.matmul(views[0], crop, out=cosines), out=best)
    return best


def _nearest(best: NDArray[np.float32], first: int) -> Iterator[tuple[int, int]]:
    """Yield row and column of the nearest earlier pictures of each row."""
    best[np.arange(best.shape[1])[None, :] >= first + np.arange(len(best))[:, None]] = -1
    for row in np.flatnonzero(best.max(axis=1, initial=-1) >= MIN_COSINE).tolist():
        columns = np.flatnonzero(best[row] >= MIN_COSINE)
        nearest = columns[np.argsort(-best[row, columns], kind="stable")[:NEAREST]]
        yield from ((row, column) for column in sorted(nearest.tolist()))


def _candidate(
    views: NDArray[np.float32], other: NDArray[np.float32], one_row: int, other_row: int
) -> Candidate:
    """Return the turn and the crop of the largest cosine.

    Shapes:
        views: (crops, turns, frequencies).  other: (crops, frequencies).
    """
    as_source, as_target = views @ other[0], views[0] @ other.T
    is_one_larger = bool(as_source.max() >= as_target.max())
    best = as_source if is_one_larger else as_target.T
    crop, turn = (int(place) for place in np.unravel_index(int(best.argmax()), best.shape))
    return Candidate(one=one_row, other=other_row, turn=turn, crop=CROPS[crop], is_one_larger=is_one_larger)
