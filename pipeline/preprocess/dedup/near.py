"""Finding near duplicates: pictures that show the same photograph.

Perceptual hashes sort out the many that differ. Below `SAME_BITS` the mean colours decide; up to `LIKE_BITS`,
where crops and different pictures of one subject lie together, the sketches are laid over each other. The
limits are tight: a wrong merge glues classes together, a missed one costs a little independence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.preprocess.dedup.alignment import SIDE, align_thumbnails, correlate, decode_alignment_thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_BITS = 256
SAME_BITS = 20  # re-encoded and halved copies differ in 8 bits or fewer
LIKE_BITS = 64  # 2 % cropped on every side: 50 or fewer; different pictures: 44 and more
SAME_LEVELS = 24  # of 255, in any colour of any quarter
MAX_LEFT_OVER = 0.06
MIN_CORRELATION = 0.6
ODD_COLUMNS = int("5" * (HASH_BITS // 4), 16)  # the frequencies whose sign a mirror turns
_WORDS = HASH_BITS // 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a picture looks.

    Args:
        phash: 256-bit perceptual hash, hex; None for a flat picture: it is near nothing.
        colour: Mean RGB of the four quarters, hex.
        sketch: 24 x 24 gray levels, base64; None where an earlier release did not draw one.
    """

    phash: str | None
    colour: str | None
    sketch: str | None


class NearIndex:
    """Finds the pictures near another. Every hash is compared, in one sweep over packed bits.

    Args:
        mirrored: Whether a mirrored copy is near its original.
    """

    def __init__(self, *, mirrored: bool = False) -> None:
        self._mirrored = mirrored
        self._ids: list[str] = []
        # A row for each word of the hash, a column for each picture: the sweep is over long rows.
        self._hashes: NDArray[np.uint64] = np.empty((_WORDS, 0), np.uint64)
        self._colours: NDArray[np.uint8] = np.empty((0, 12), np.uint8)
        self._sketches: NDArray[np.uint8] = np.empty((0, SIDE, SIDE), np.uint8)
        self._drawn: NDArray[np.bool_] = np.empty(0, bool)

    def add(self, id: str, look: Look) -> None:
        """Remember a picture; a flat one is not remembered."""
        if look.phash is None or look.colour is None:
            return
        place = len(self._ids)
        if place == len(self._drawn):
            self._grow(max(64, 2 * place))
        self._ids.append(id)
        self._hashes[:, place] = _pack(int(look.phash, 16))
        self._colours[place] = _levels(look.colour)
        self._drawn[place] = look.sketch is not None
        if look.sketch is not None:
            self._sketches[place] = decode_alignment_thumbnail(look.sketch)

    def find(self, look: Look) -> list[str]:
        """Return the remembered pictures near this one, in the order they were remembered."""
        if look.phash is None or look.colour is None:
            return []
        bits, colour = int(look.phash, 16), _levels(look.colour)
        sketch = None if look.sketch is None else decode_alignment_thumbnail(look.sketch)
        places = self._near(_pack(bits), colour, sketch)
        if self._mirrored:
            flipped = None if sketch is None else sketch[:, ::-1]
            turned = colour.reshape(2, 2, 3)[:, ::-1].ravel()
            places |= self._near(_pack(bits ^ ODD_COLUMNS), turned, flipped)
        return [self._ids[place] for place in sorted(places)]

    def _near(self, hash: NDArray[Any], colour: NDArray[Any], sketch: NDArray[Any] | None) -> set[int]:
        count = len(self._ids)
        differing = np.zeros(count, np.uint16)
        for words, word in zip(self._hashes, hash, strict=True):
            differing += np.bitwise_count(words[:count] ^ word)
        same = np.flatnonzero(differing <= SAME_BITS)
        apart = np.abs(self._colours[same].astype(int) - colour.astype(int)).max(axis=1, initial=0)
        found = set(same[apart <= SAME_LEVELS].tolist())
        if sketch is None:
            return found
        like = np.flatnonzero((differing <= LIKE_BITS) & self._drawn[:count])
        if not len(like):
            return found
        like = like[correlate(self._sketches[like], sketch) >= MIN_CORRELATION]
        return found | set(like[self._fits(like, colour, sketch)].tolist())

    def _fits(self, like: NDArray[Any], colour: NDArray[Any], sketch: NDArray[Any]) -> NDArray[np.bool_]:
        others, ones = self._sketches[like], np.broadcast_to(sketch, (len(like), SIDE, SIDE))
        tints, tint = self._colours[like].astype(float), colour.astype(float)
        fits = np.ones(len(like), bool)
        for moved, still, seen, wanted in ((others, ones, tints, tint), (ones, others, tint, tints)):
            left, gain, offset = align_thumbnails(moved, still)
            apart = np.abs(gain[:, None] * seen + offset[:, None] - wanted).max(axis=1, initial=0)
            fits &= (left <= MAX_LEFT_OVER) & (apart <= SAME_LEVELS)
        return fits

    def _grow(self, size: int) -> None:
        hashes = np.zeros((_WORDS, size), np.uint64)
        hashes[:, : len(self._ids)] = self._hashes
        self._hashes = hashes
        for name in ("_colours", "_sketches", "_drawn"):
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def _pack(bits: int) -> NDArray[np.uint64]:
    return np.frombuffer(bits.to_bytes(HASH_BITS // 8), np.uint64)


def _levels(colour: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour), np.uint8)
