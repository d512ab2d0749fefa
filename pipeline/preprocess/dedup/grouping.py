"""Groups of pictures that are the same, or nearly: what must not straddle the split.

Exact duplicates share an id: equal pixels. `near.py` finds the near ones, `copies.py` what augmentation made.
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
        straddling: Ids of new pictures that belong to neither side, and of training pictures of earlier
            versions that turned out to be copies of a test picture.
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

    def split_of(self, name: str) -> str | None:
        return self._splits.get(self.find(name))

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
    pictures: Sequence[Picture],
    seen: Sequence[SplitAssignment] = (),
    *,
    copies: Sequence[tuple[str, str]] = (),
) -> Grouping:
    """Group near duplicates, copies and the source's own groups, keeping what earlier versions decided.

    New pictures are taken in source order, those that a source gives to the test set first. One that is
    linked to a training group and to a test group joins neither and links nothing; so does one that its
    source gives to the other side than the groups it is linked to. Where a training picture and a test
    picture of earlier versions are copies, the training picture's group trains no longer.

    Args:
        pictures: The version's pictures, each id once, in source order.
        seen: Pictures of earlier versions in the order they were first seen.
        copies: Pairs of ids, of which one picture is an altered copy of the other.
    """
    placing = _Placing.after(seen, copies)
    placing.join_seen(copies)
    by_source: dict[str, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.source_group is not None and picture.id in placing.grouping.groups:
            by_source[picture.source_group].append(picture.id)
    for picture in sorted(pictures, key=lambda picture: picture.split != TEST):
        if picture.id not in placing.grouping.groups:
            placing.place(picture, by_source)
    return placing.finish()


@dataclass(slots=True, kw_only=True)
class _Placing:
    """Groups in the making.

    Args:
        groups: The groups so far.
        copies: The altered copies of each picture, by id.
        near: The pictures so far.
        grouping: The result so far.
        barred: Names of training groups that a test picture has a copy in.
    """

    groups: _Groups
    copies: dict[str, list[str]]
    near: NearIndex = field(default_factory=NearIndex)
    grouping: Grouping = field(default_factory=Grouping)
    barred: set[str] = field(default_factory=set)

    @classmethod
    def after(cls, seen: Sequence[SplitAssignment], copies: Sequence[tuple[str, str]]) -> _Placing:
        """Return what earlier versions decided."""
        by_id: dict[str, list[str]] = defaultdict(list)
        for one, other in copies:
            by_id[one].append(other)
            by_id[other].append(one)
        placing = cls(groups=_Groups({each.group: each.split for each in seen}), copies=by_id)
        for assigned in seen:
            placing.groups.open(assigned.group)
            placing.grouping.groups[assigned.id] = assigned.group
            placing.near.add(assigned.fingerprint)
            if assigned.straddles:
                placing.barred.add(assigned.group)
        return placing

    def join_seen(self, copies: Sequence[tuple[str, str]]) -> None:
        """Join the groups of earlier pictures that are copies; bar a training group with a test picture."""
        named = self.grouping.groups
        pairs = [(one, other) for one, other in copies if one in named and other in named]
        self.grouping.near_pairs += pairs
        for names in ([named[one], named[other]] for one, other in pairs):
            if len(self.groups.splits_of(names)) == 1:
                self.groups.join(names)
            else:
                self.barred.update(name for name in names if self.groups.split_of(name) != TEST)

    def place(self, picture: Picture, by_source: dict[str, list[str]]) -> None:
        """Put a new picture into the groups it is linked to, or keep it out."""
        named = self.grouping.groups
        like = self.near.find(picture.fingerprint)
        like += [id for id in self.copies.get(picture.id, ()) if id in named and id not in like]
        self.grouping.near_pairs += [(other, picture.id) for other in like]
        siblings = [] if picture.source_group is None else by_source[picture.source_group]
        linked = [named[id] for id in (*like, *siblings)]
        sides = self.groups.splits_of(linked) | ({picture.split} - {None})
        if len(sides) > 1 or self._is_barred(linked):
            self.grouping.straddling.add(picture.id)
            return
        self.groups.open(picture.id, picture.split)
        self.groups.join([picture.id, *linked])
        named[picture.id] = picture.id
        siblings.append(picture.id)
        self.near.add(picture.fingerprint)

    def _is_barred(self, names: Iterable[str]) -> bool:
        if not self.barred:
            return False
        barred = {self.groups.find(name) for name in self.barred}
        return any(self.groups.find(name) in barred for name in names)

    def finish(self) -> Grouping:
        """Return the groups under their final names."""
        grouping = self.grouping
        grouping.groups = {id: self.groups.find(name) for id, name in grouping.groups.items()}
        barred = {self.groups.find(name) for name in self.barred}
        grouping.straddling |= {id for id, name in grouping.groups.items() if name in barred}
        grouping.splits = self.groups.decided()
        return grouping
