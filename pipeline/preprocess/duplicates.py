"""Pictures that are the same, or nearly: what must not be counted twice or straddle the split.

Exact duplicates share an id: equal pixels. Near duplicates agree in perceptual hash *and* in colour. The
limits are tight: a wrong merge glues classes together, a missed one costs a little independence. Measured:
different pictures of one subject differ in 44 bits or more, re-encoded and halved ones in 6 or fewer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

NEAR_BITS = 20  # of 256
NEAR_LEVELS = 24  # of 255, in any colour of any quarter
HASH_BITS = 256
# Hashes that differ in at most NEAR_BITS bits agree in one of so many bands: none is missed.
BANDS = NEAR_BITS + 1
BAND_BITS = HASH_BITS // BANDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What grouping needs of one picture.

    Args:
        id: Its pixels' digest.
        source_group: The source's own group, None where it has none.
        phash: Perceptual hash, None for a flat picture: it is near nothing.
        colour: Mean colours of the quarters.
    """

    id: str
    source_group: str | None
    phash: str | None
    colour: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPicture:
    """A picture of an earlier version, still in the source or not, and where it was put."""

    id: str
    group: str
    split: str
    phash: str | None
    colour: str | None


class NearIndex:
    """Finds the pictures near another without comparing all pairs."""

    def __init__(self) -> None:
        self._bands: list[dict[int, list[str]]] = [defaultdict(list) for _ in range(BANDS)]
        self._signatures: dict[str, tuple[int, bytes]] = {}

    def add(self, id: str, phash: str | None, colour: str | None) -> None:
        """Remember a picture; a flat one is not remembered."""
        if phash is None or colour is None:
            return
        bits = int(phash, 16)
        self._signatures[id] = (bits, bytes.fromhex(colour))
        for band, key in enumerate(_band_keys(bits)):
            self._bands[band][key].append(id)

    def find(self, phash: str | None, colour: str | None) -> list[str]:
        """Return the remembered pictures near this one."""
        if phash is None or colour is None:
            return []
        bits, tint = int(phash, 16), bytes.fromhex(colour)
        keys = enumerate(_band_keys(bits))
        candidates = dict.fromkeys(id for band, key in keys for id in self._bands[band].get(key, ()))
        return [id for id in candidates if self._is_near(id, bits, tint)]

    def _is_near(self, id: str, bits: int, tint: bytes) -> bool:
        other_bits, other_tint = self._signatures[id]
        if (bits ^ other_bits).bit_count() > NEAR_BITS:
            return False
        return max(abs(a - b) for a, b in zip(tint, other_tint, strict=True)) <= NEAR_LEVELS


def _band_keys(bits: int) -> list[int]:
    mask = (1 << BAND_BITS) - 1
    return [(bits >> (band * BAND_BITS)) & mask for band in range(BANDS)]


@dataclass(slots=True)
class Grouping:
    """Groups by picture, and the pictures that would join a training group to a test group.

    Args:
        groups: Group of each picture that has one, by id, earlier versions' pictures too.
        straddling: Ids of new pictures that belong to neither side.
        near_pairs: Pairs of near duplicates among the pictures given.
    """

    groups: dict[str, str] = field(default_factory=dict)
    straddling: set[str] = field(default_factory=set)
    near_pairs: list[tuple[str, str]] = field(default_factory=list)


class _Groups:
    """Union-find over group names; the name first seen stays."""

    def __init__(self, splits: Mapping[str, str]) -> None:
        self._parents: dict[str, str] = {}
        self._ranks: dict[str, int] = {}
        self._splits = dict(splits)

    def open(self, name: str) -> None:
        if name not in self._parents:
            self._parents[name], self._ranks[name] = name, len(self._ranks)

    def find(self, name: str) -> str:
        root = name
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[name] != root:
            self._parents[name], name = root, self._parents[name]
        return root

    def splits_of(self, names: Iterable[str]) -> set[str]:
        roots = {self.find(name) for name in names}
        return {self._splits[root] for root in roots if root in self._splits}

    def join(self, names: Sequence[str]) -> None:
        known = self.splits_of(names)
        roots = sorted({self.find(name) for name in names}, key=self._ranks.__getitem__)
        for root in roots[1:]:
            self._parents[root] = roots[0]
        if known:
            self._splits[roots[0]] = known.pop()


def group_pictures(pictures: Sequence[Picture], seen: Sequence[SeenPicture] = ()) -> Grouping:
    """Group near duplicates and the source's own groups, keeping what earlier versions decided.

    New pictures are taken in source order. One that is linked to a training group and to a test group of
    earlier versions joins neither and links nothing.

    Args:
        pictures: The version's pictures, each id once, in source order.
        seen: Pictures of earlier versions in the order they were first seen.
    """
    grouping, near = Grouping(), NearIndex()
    groups = _Groups({picture.group: picture.split for picture in seen})
    for picture in seen:
        groups.open(picture.group)
        grouping.groups[picture.id] = picture.group
        near.add(picture.id, picture.phash, picture.colour)
    by_source: dict[str, list[str]] = defaultdict(list)
    for known in pictures:
        if known.source_group is not None and known.id in grouping.groups:
            by_source[known.source_group].append(known.id)
    for new in pictures:
        if new.id not in grouping.groups:
            _place(new, grouping, groups, near, by_source)
    grouping.groups = {id: groups.find(name) for id, name in grouping.groups.items()}
    return grouping


def _place(
    picture: Picture,
    grouping: Grouping,
    groups: _Groups,
    near: NearIndex,
    by_source: dict[str, list[str]],
) -> None:
    like = near.find(picture.phash, picture.colour)
    grouping.near_pairs += [(other, picture.id) for other in like]
    siblings = [] if picture.source_group is None else by_source[picture.source_group]
    linked = [grouping.groups[id] for id in (*like, *siblings)]
    if len(groups.splits_of(linked)) > 1:
        grouping.straddling.add(picture.id)
        return
    groups.open(picture.id)
    groups.join([picture.id, *linked])
    grouping.groups[picture.id] = picture.id
    siblings.append(picture.id)
    near.add(picture.id, picture.phash, picture.colour)
