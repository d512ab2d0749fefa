"""Finding near duplicates: pictures that show the same photograph.

Perceptual hashes sort out the many that differ. Below `SAME_BITS` the mean colours decide; up to `LIKE_BITS`,
where crops and different pictures of one subject lie together, alignment thumbnails are laid over each other.
The limits are tight: a wrong merge glues classes together, a missed one costs a little independence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.preprocess.dedup.alignment import SIDE, align_thumbnails, correlate, decode_alignment_thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_BITS = 256
SAME_BITS = 20  # re-encoded and halved copies differ in 8 bits or fewer
LIKE_BITS = 64  # 2 % cropped on every side: 50 or fewer; different pictures: 44 and more
SAME_LEVELS = 24  # of 255, in any colour of any quarter
MAX_LEFT_OVER = 0.06
MIN_CORRELATION = 0.6
_WORDS = HASH_BITS // 64


class NearIndex:
    """Finds the pictures near another. Every hash is compared, in one sweep over packed bits."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        # A row for each word of the hash, a column for each picture: the sweep is over long rows.
        self._hashes: NDArray[np.uint64] = np.empty((_WORDS, 0), np.uint64)
        self._colours: NDArray[np.uint8] = np.empty((0, 12), np.uint8)
        self._thumbnails: NDArray[np.uint8] = np.empty((0, SIDE, SIDE), np.uint8)
        self._has_thumbnail: NDArray[np.bool_] = np.empty(0, bool)

    def add(self, picture: ImageFingerprint) -> None:
        """Remember a picture; a flat one is not remembered."""
        if picture.phash is None or picture.colour is None:
            return
        place = len(self._ids)
        if place == len(self._has_thumbnail):
            self._grow(max(64, 2 * place))
        self._ids.append(picture.id)
        self._hashes[:, place] = _pack(int(picture.phash, 16))
        self._colours[place] = _levels(picture.colour)
        self._has_thumbnail[place] = picture.alignment_thumbnail is not None
        if picture.alignment_thumbnail is not None:
            self._thumbnails[place] = decode_alignment_thumbnail(picture.alignment_thumbnail)

    def find(self, picture: ImageFingerprint) -> list[str]:
        """Return the remembered pictures near this one, in the order they were remembered."""
        if picture.phash is None or picture.colour is None:
            return []
        text = picture.alignment_thumbnail
        thumbnail = None if text is None else decode_alignment_thumbnail(text)
        places = self._near(_pack(int(picture.phash, 16)), _levels(picture.colour), thumbnail)
        return [self._ids[place] for place in sorted(places)]

    def _near(
        self, hash: NDArray[np.uint64], colour: NDArray[np.uint8], thumbnail: NDArray[np.uint8] | None
    ) -> set[int]:
        count = len(self._ids)
        differing = np.zeros(count, np.uint16)
        for words, word in zip(self._hashes, hash, strict=True):
            differing += np.bitwise_count(words[:count] ^ word)
        same = np.flatnonzero(differing <= SAME_BITS)
        apart = np.abs(self._colours[same].astype(int) - colour.astype(int)).max(axis=1, initial=0)
        near = set(same[apart <= SAME_LEVELS].tolist())
        if thumbnail is None:
            return near
        like = np.flatnonzero((differing <= LIKE_BITS) & self._has_thumbnail[:count])
        if not len(like):
            return near
        like = like[correlate(self._thumbnails[like], thumbnail) >= MIN_CORRELATION]
        return near | set(like[self._fits(like, colour, thumbnail)].tolist())

    def _fits(
        self, like: NDArray[np.int64], colour: NDArray[np.uint8], thumbnail: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        others, ones = self._thumbnails[like], np.broadcast_to(thumbnail, (len(like), SIDE, SIDE))
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
        for name in ("_colours", "_thumbnails", "_has_thumbnail"):
            old = getattr(self, name)
            new = np.zeros((size, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)


def _pack(bits: int) -> NDArray[np.uint64]:
    return np.frombuffer(bits.to_bytes(HASH_BITS // 8), np.uint64)


def _levels(colour: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colour), np.uint8)
