"""Altered copies: pictures that augmentation made of another one.

A mirrored, turned, gray or cropped copy has another perceptual hash than its original. Its low frequencies
propose the original (`candidates.py`), the alignment thumbnails rule most proposals out, and the pictures
themselves decide, decoded again: laid over each other at 40 x 40 pixels, with the same sharpness, a copy
leaves a hundredth of the detail over, and two photographs of one hand ten times that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.pixels.host import decode_picture
from pipeline.pixels.spec import ALL_BITS
from pipeline.preprocess.dedup.affine import AffineFit, blur_for, crop_move, fit_affine, read_moved, scale_of
from pipeline.preprocess.dedup.alignment import decode_alignment_thumbnail
from pipeline.preprocess.dedup.candidates import Candidate, find_candidates, turn_picture
from pipeline.types import BoolArray, FloatArray, UInt8Image, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINE_SIDE = 96  # of the pictures that are read again
ROUGH_GRID, FINE_GRID = 16, 40
ROUGH_STEPS, FINE_STEPS = 3, 7
MAX_ROUGH = 0.07  # of the variance
MAX_LEFT_OVER = 0.02  # of the variance
MAX_LEFT_OF_DETAIL = 0.05  # of what no smooth surface explains
MIN_DETAIL = 3.0  # levels
MIN_SCALE, MAX_SCALE, MAX_STRETCH = 0.5, 1.3, 1.25
MAX_REACH = 1.2  # of half a side: corners of a turned picture stick out a little
SAME_LEVELS = 24  # of 255, in any colour of any quarter
GRAY_LEVELS = 4  # between the colours of a gray picture, on average
CHUNK = 256  # pairs whose pixels are in memory

ReadPictures = Callable[[Sequence[str]], Mapping[str, UInt8Image]]


def shrink_picture(data: bytes, *, bits: int = ALL_BITS) -> UInt8Image:
    """Decode a picture file for comparison; `bits` as in `PixelSpec`.

    Shapes:
        returns (96, 96, 3) uint8.

    Raises:
        UndecodableImage: if it is no picture.
    """
    size = (FINE_SIDE, FINE_SIDE)
    pixels = decode_picture(data, bits=bits)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def find_copies(
    pictures: Sequence[ImageFingerprint],
    is_new: Callable[[str], bool],
    read: ReadPictures,
    *,
    turned: bool = True,
) -> list[tuple[str, str]]:
    """Return pairs of pictures of which one is an altered copy of the other.

    Args:
        pictures: All pictures, in the order they were seen.
        is_new: Which of them, by id, are to be compared with the others.
        read: Returns the pictures that it can read as `shrink_picture` does, by id.
        turned: Whether to look for turned and flipped copies.
    """
    usable = [each for each in pictures if each.phash and each.alignment_thumbnail]
    if len(usable) < 2:
        return []
    thumbnails = np.stack([decode_alignment_thumbnail(each.alignment_thumbnail or "") for each in usable])
    compared = np.array([is_new(each.id) for each in usable], bool)
    pairs: list[tuple[str, str]] = []
    for candidates in _chunks(find_candidates(thumbnails, compared, turned=turned)):
        likely = _rule_out(candidates, thumbnails)
        ids = {usable[row].id for candidate, _ in likely for row in (candidate.one, candidate.other)}
        seen = read(sorted(ids)) if ids else {}
        readable = [
            (candidate, move, seen[usable[candidate.one].id], seen[usable[candidate.other].id])
            for candidate, move in likely
            if usable[candidate.one].id in seen and usable[candidate.other].id in seen
        ]
        pairs += [(usable[each.other].id, usable[each.one].id) for each in _confirm(readable)]
    return pairs


def _chunks(candidates: Iterator[Candidate]) -> Iterator[list[Candidate]]:
    chunk: list[Candidate] = []
    for candidate in candidates:
        chunk.append(candidate)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _rule_out(
    candidates: Sequence[Candidate], thumbnails: NDArray[np.uint8]
) -> list[tuple[Candidate, FloatArray]]:
    """Return the candidates whose thumbnails can be laid over each other, and by which move."""
    pairs = [_orient(each, thumbnails[each.one], thumbnails[each.other]) for each in candidates]
    moves = np.stack([crop_move(each.crop) for each in candidates])
    fit = _fit(pairs, moves, ROUGH_GRID, ROUGH_STEPS)
    return [
        (candidate, move)
        for candidate, move, left in zip(candidates, fit.move, fit.left_over, strict=True)
        if left <= MAX_ROUGH
    ]


def _orient(
    candidate: Candidate, one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the larger picture and its crop, the later one of both turned."""
    turned = turn_picture(one, candidate.turn)
    return (turned, other) if candidate.is_one_larger else (other, turned)


def _fit(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], moves: FloatArray, grid: int, steps: int
) -> AffineFit:
    source = np.stack([_gray(larger) for larger, _ in pairs])
    target = np.stack([_gray(crop, grid) for _, crop in pairs])
    blurred = blur_for(source, scale_of(moves) * source.shape[1] / grid)
    return fit_affine(blurred.astype(np.float64), target.astype(np.float64), moves, steps=steps)


def _gray(picture: NDArray[np.uint8], side: int | None = None) -> NDArray[np.float32]:
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("L")
    image = image if side is None else image.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of pictures as they are compared in the end."""

    larger: UInt8Images
    crops: UInt8Images
    fit: AffineFit


def _confirm(readable: Sequence[tuple[Candidate, FloatArray, UInt8Image, UInt8Image]]) -> list[Candidate]:
    """Return the candidates that the pictures themselves confirm."""
    if not readable:
        return []
    oriented = [_orient(candidate, one, other) for candidate, _, one, other in readable]
    fit = _fit(oriented, np.stack([move for _, move, _, _ in readable]), FINE_GRID, FINE_STEPS)
    larger, crops = (np.stack(side) for side in zip(*oriented, strict=True))
    pairs = _Pairs(larger, crops, fit)
    confirmed = (fit.left_over <= MAX_LEFT_OVER) & _is_plausible(fit.move) & _fits_detail(pairs)
    confirmed &= _has_same_colours(pairs)
    return [each[0] for each, is_copy in zip(readable, confirmed, strict=True) if is_copy]


def _is_plausible(move: FloatArray) -> BoolArray:
    """Return which moves are crops and small turns: one picture within the other, and not stretched."""
    matrix, shift = move[:, :4].reshape(-1, 2, 2), move[:, 4:, None]
    stretch, scale = np.linalg.svd(matrix, compute_uv=False), scale_of(move)
    plausible = (stretch[:, 0] <= MAX_STRETCH * stretch[:, 1]) & (scale >= MIN_SCALE) & (scale <= MAX_SCALE)
    back = np.linalg.inv(np.where(plausible[:, None, None], matrix, np.eye(2)))
    corners = np.array([[-1, -1, 1, 1], [-1, 1, -1, 1]])
    reach = np.abs(matrix @ corners + shift).max(axis=(1, 2))
    reach_back = np.abs(back @ (corners - shift)).max(axis=(1, 2))
    within: BoolArray = plausible & (np.minimum(reach, reach_back) <= MAX_REACH)
    return within


def _fits_detail(pairs: _Pairs) -> BoolArray:
    """Return where the pictures agree in more than a smooth surface, such as a sky or a wall."""
    target = np.stack([_gray(crop, FINE_GRID) for crop in pairs.crops]).reshape(len(pairs.crops), -1)
    places = (np.arange(FINE_GRID) + 0.5) / FINE_GRID * 2 - 1
    down, right = (each.ravel() for each in np.meshgrid(places, places, indexing="ij"))
    surface = np.stack([np.ones_like(down), down, right, down * right, down**2, right**2], axis=1)
    smooth = surface @ np.linalg.lstsq(surface, target.T, rcond=None)[0]
    detail = (target - smooth.T).var(axis=1)
    left = pairs.fit.left_over * target.var(axis=1)
    fits: BoolArray = (detail >= MIN_DETAIL**2) & (left <= MAX_LEFT_OF_DETAIL * detail)
    return fits


def _has_same_colours(pairs: _Pairs) -> BoolArray:
    """Return where the colours of all quarters agree after brightening, or one of both is gray."""
    moved, inside = read_moved(pairs.larger.astype(np.float64), pairs.fit.move, FINE_GRID)
    wanted, _ = read_moved(pairs.crops.astype(np.float64), np.tile(crop_move(0), (len(moved), 1)), FINE_GRID)
    gain, offset = pairs.fit.gain[:, None, None, None], pairs.fit.offset[:, None, None, None]
    apart = (gain * moved + offset - wanted) * inside[..., None]
    half = FINE_GRID // 2
    quarters = apart.reshape(len(moved), 2, half, 2, half, 3).sum(axis=(2, 4))
    cells = inside.reshape(len(moved), 2, half, 2, half).sum(axis=(2, 4))[..., None]
    agrees = np.abs(quarters / np.maximum(cells, 1)).max(axis=(1, 2, 3)) <= SAME_LEVELS
    same: BoolArray = agrees | _is_gray(pairs.larger) | _is_gray(pairs.crops)
    return same


def _is_gray(pictures: UInt8Images) -> BoolArray:
    levels = pictures.astype(np.int16)
    spread = (levels.max(axis=3) - levels.min(axis=3)).mean(axis=(1, 2))
    return np.asarray(spread <= GRAY_LEVELS)
