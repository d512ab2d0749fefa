"""Groups of pictures that are the same, or nearly: what must not straddle the split.

Exact duplicates share an id: equal pixels. `near.py` finds the near ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.split_registry import SplitAssignment
from pipeline.preprocess.dedup.near import NearIndex
from pipeline.preprocess.split import TEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What grouping needs of one picture.

    Args:
        fingerprint: Its exact digest, and how it looks.
        source_group: The source's own group, None where it has none.
        split: The side that its source gives it; None where that is open.
    """

    fingerprint: ImageFingerprint
    source_group: str | None = None
    split: str | None = None

    @property
    def id(self) -> str:
        """SHA-256 of its pixels."""
        return self.fingerprint.id


@dataclass(slots=True)
class Grouping:
    """Groups by picture, and the pictures that would join a training group to a test group.

    Args:
        groups: Group of each picture that has one, by id, earlier versions' pictures too.
        straddling: Ids of new pictures that belong to neither side.
        splits: Side of each group whose side is decided: by earlier versions, or by a source.
        near_pairs: Pairs of near duplicates among the pictures.
    """

    groups: dict[str, str] = field(default_factory=dict)
    straddling: set[str] = field(default_factory=set)
    splits: dict[str, str] = field(default_factory=dict)
    near_pairs: list[tuple[str, str]] = field(default_factory=list)


class _Groups:
    """Union-find over group names; the name first seen stays."""

    def __init__(self, splits: Mapping[str, str]) -> None:
        self._parents: dict[str, str] = {}
        self._ranks: dict[str, int] = {}
        self._splits = dict(splits)

    def open(self, name: str, split: str | None = None) -> None:
        if name not in self._parents:
            self._parents[name], self._ranks[name] = name, len(self._ranks)
            if split is not None:
                self._splits[name] = split

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

    def decided(self) -> dict[str, str]:
        """Return the side of each group that has one, by the group's name."""
        return {name: self._splits[name] for name in self._parents if name in self._splits}

    def join(self, names: Sequence[str]) -> None:
        splits = self.splits_of(names)
        roots = sorted({self.find(name) for name in names}, key=self._ranks.__getitem__)
        for root in roots[1:]:
            self._parents[root] = roots[0]
        if splits:
            self._splits[roots[0]] = splits.pop()


def group_pictures(
    pictures: Sequence[Picture], seen: Sequence[SplitAssignment] = (), *, mirrored: bool = False
) -> Grouping:
    """Group near duplicates and the source's own groups, keeping what earlier versions decided.

    New pictures are taken in source order, those that a source gives to the test set first. One that is
    linked to a training group and to a test group joins neither and links nothing; so does one that its
    source gives to the other side than the groups it is linked to.

    Args:
        pictures: The version's pictures, each id once, in source order.
        seen: Pictures of earlier versions in the order they were first seen.
        mirrored: Whether a mirrored copy is near its original.
    """
    grouping, near = Grouping(), NearIndex(mirrored=mirrored)
    groups = _Groups({assigned.group: assigned.split for assigned in seen})
    for assigned in seen:
        groups.open(assigned.group)
        grouping.groups[assigned.id] = assigned.group
        near.add(assigned.fingerprint)
    by_source: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.source_group is not None and picture.id in grouping.groups:
            by_source[picture.source_group].append(picture.id)
    for picture in sorted(pictures, key=lambda picture: picture.split != TEST):
        if picture.id not in grouping.groups:
            _place(picture, grouping, groups, near, by_source)
    grouping.groups = {id: groups.find(name) for id, name in grouping.groups.items()}
    grouping.splits = groups.decided()
    return grouping


def _place(
    picture: Picture,
    grouping: Grouping,
    groups: _Groups,
    near: NearIndex,
    by_source: dict[str, list[str]],
) -> None:
    like = near.find(picture.fingerprint)
    grouping.near_pairs += [(other, picture.id) for other in like]
    siblings = [] if picture.source_group is None else by_source[picture.source_group]
    linked = [grouping.groups[id] for id in (*like, *siblings)]
    sides = groups.splits_of(linked) | ({picture.split} - {None})
    if len(sides) > 1:
        grouping.straddling.add(picture.id)
        return
    groups.open(picture.id, picture.split)
    groups.join([picture.id, *linked])
    grouping.groups[picture.id] = picture.id
    siblings.append(picture.id)
    near.add(picture.fingerprint)
