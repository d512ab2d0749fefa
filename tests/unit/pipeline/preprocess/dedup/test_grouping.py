from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.split_registry import SEARCH, SplitAssignment
from pipeline.preprocess.dedup.grouping import Picture, group_pictures
from pipeline.preprocess.dedup.near import HASH_BITS, SAME_BITS
from pipeline.preprocess.split import Member, split_by_hash

COLOUR = "80" * 12


def picture(id: str, bits: int | None = None, *, group: str | None = None) -> Picture:
    phash = None if bits is None else f"{bits:064x}"
    return Picture(fingerprint=ImageFingerprint(id=id, phash=phash, colour=COLOUR), source_group=group)


def seen(picture: Picture, group: str, split: str) -> SplitAssignment:
    return SplitAssignment(fingerprint=picture.fingerprint, group=group, split=split)


def flipped(count: int, seed: int = 0) -> int:
    places = np.random.default_rng(seed).choice(HASH_BITS, count, replace=False)
    return sum(1 << int(place) for place in places)


A = picture("a", 0)
FAR = picture("far", flipped(128))
NEAR_A = picture("near a", flipped(SAME_BITS))


class TestGroups:
    def test_are_named_by_their_first_member(self) -> None:
        assert group_pictures([A, FAR, NEAR_A]).groups == {"a": "a", "far": "far", "near a": "a"}

    def test_chains_and_source_groups_join(self) -> None:
        pictures = [A, picture("s", flipped(100, 3), group="g"), replace(NEAR_A, source_group="g")]
        assert set(group_pictures(pictures).groups.values()) == {"a"}

    def test_the_name_stays_when_the_first_member_leaves(self) -> None:
        old = [seen(A, "a", "test"), seen(NEAR_A, "a", "test")]
        newcomer = picture("new", flipped(SAME_BITS - 4))
        assert group_pictures([NEAR_A, newcomer], old).groups["new"] == "a"

    def test_a_picture_near_one_that_left_joins_its_side(self) -> None:
        assert group_pictures([NEAR_A], [seen(A, "a", "test")]).groups["near a"] == "a"

    def test_a_bridge_between_two_groups_of_one_side_joins_them(self) -> None:
        old = [seen(A, "a", "train"), seen(FAR, "far", "train")]
        bridge = replace(NEAR_A, source_group="g")
        groups = group_pictures([A, replace(FAR, source_group="g"), bridge], old).groups
        assert groups == {"a": "a", "far": "a", "near a": "a"}


class TestStraddling:
    OLD = (seen(A, "a", "train"), seen(FAR, "far", "test"))
    BRIDGE = replace(NEAR_A, source_group="g")
    FAR_IN_G = replace(FAR, source_group="g")

    def test_a_bridge_between_train_and_test_is_kept_out(self) -> None:
        grouping = group_pictures([A, self.FAR_IN_G, self.BRIDGE], self.OLD)
        assert grouping.straddling == {"near a"}
        assert grouping.groups == {"a": "a", "far": "far"}

    def test_it_links_nothing_itself(self) -> None:
        friend = picture("friend", flipped(SAME_BITS) ^ flipped(20, 9))
        grouping = group_pictures([A, self.FAR_IN_G, self.BRIDGE, friend], self.OLD)
        assert grouping.groups["friend"] == "friend"

    def test_a_new_group_takes_the_side_it_meets_first(self) -> None:
        first = picture("first", flipped(SAME_BITS), group="g")
        second = picture("second", flipped(128), group="g")
        grouping = group_pictures([A, FAR, first, second], self.OLD)
        assert grouping.groups["first"] == "a"
        assert grouping.straddling == {"second"}

    def test_pictures_of_earlier_versions_stay_where_they_are(self) -> None:
        old = (*self.OLD, seen(NEAR_A, "far", "test"))
        grouping = group_pictures([A, FAR, NEAR_A], old)
        assert grouping.straddling == set()
        assert grouping.groups["near a"] == "far"


class TestCopies:
    OLD = (seen(A, "a", "train"), seen(FAR, "far", "test"))
    NEW = picture("new", flipped(128, 5))

    def test_a_copy_joins_its_original(self) -> None:
        grouping = group_pictures([A, FAR, self.NEW], self.OLD, copies=[("far", "new")])
        assert grouping.groups["new"] == "far"
        assert grouping.straddling == set()
        assert grouping.near_pairs == [("far", "new")]

    def test_copies_of_pictures_that_are_not_there_link_nothing(self) -> None:
        assert group_pictures([A], copies=[("gone", "a")]).groups == {"a": "a"}

    def test_an_old_training_picture_that_is_a_copy_of_a_test_picture_is_kept_out(self) -> None:
        old = (*self.OLD, seen(NEAR_A, "a", "train"))
        grouping = group_pictures([A, FAR, NEAR_A], old, copies=[("a", "far")])
        assert grouping.straddling == {"a", "near a"}
        assert grouping.splits == {"a": "train", "far": "test"}

    def test_it_stays_out_although_it_is_not_compared_again(self) -> None:
        old = (replace(self.OLD[0], straddles=True, search=SEARCH), self.OLD[1])
        grouping = group_pictures([A, FAR, NEAR_A], old)
        assert grouping.straddling == {"a", "near a"}

    def test_old_groups_of_one_side_are_joined(self) -> None:
        old = (seen(A, "a", "test"), seen(FAR, "far", "test"))
        assert group_pictures([A, FAR], old, copies=[("a", "far")]).groups == {"a": "a", "far": "a"}


class TestManyAdditions:
    """Versions that grow at random, with pictures near several others, under the split of `clean`."""

    @staticmethod
    def chain(random: np.random.Generator, bases: list[int]) -> int:
        """Return a hash near one of the pictures so far, or one on its own."""
        base = bases[int(random.integers(len(bases)))] if bases and random.random() < 0.7 else None
        return (
            flipped(128, int(random.integers(1 << 30)))
            if base is None
            else base ^ flipped(int(random.integers(SAME_BITS)), int(random.integers(1 << 30)))
        )

    @pytest.mark.parametrize("seed", range(12))
    def test_no_group_ever_straddles_the_split(self, seed: int) -> None:
        random, bases, pictures = np.random.default_rng(seed), [], []
        ledger: list[SplitAssignment] = []
        bridges = merges = 0
        for _ in range(5):
            for _ in range(40):
                bases.append(self.chain(random, bases))
                group = f"g{random.integers(30)}" if random.random() < 0.3 else None
                pictures.append(picture(f"p{len(pictures)}", bases[-1], group=group))
            grouping = group_pictures(pictures, ledger)
            bridges += len(grouping.straddling)
            kept = [each for each in pictures if each.id in grouping.groups]
            members = [Member(label="x", group=grouping.groups[each.id]) for each in kept]
            known = {old.group: old.split for old in ledger}
            splits = split_by_hash(members, ["x"], assigned=known, fraction=0.3, salt=str(seed))
            before = {old.id: old.split for old in ledger}
            merges += sum(grouping.groups[old.id] != old.group for old in ledger)
            ledger = [replace(old, group=grouping.groups[old.id]) for old in ledger]
            ledger += [
                seen(each, grouping.groups[each.id], splits[grouping.groups[each.id]])
                for each in kept
                if each.id not in before
            ]
            sides: dict[str, set[str]] = {}
            for old in ledger:
                sides.setdefault(old.group, set()).add(old.split)
            assert {len(found) for found in sides.values()} == {1}
            placed = {old.id: old.split for old in ledger}
            assert {id: placed[id] for id in before} == before
            kept_pairs = [pair for pair in grouping.near_pairs if pair[0] in placed and pair[1] in placed]
            assert all(placed[one] == placed[other] for one, other in kept_pairs)
        assert bridges
        assert merges
