from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.model_selection import train_test_split

from pipeline.errors import SplitError
from pipeline.preprocess.split import Member, check_split, group_hash, split_at_random, split_by_hash


def singles(label: str, count: int) -> list[Member]:
    return [Member(label=label, group=f"{label}{index}") for index in range(count)]


def split_of(members: list[Member], *, known: dict[str, str] | None = None, fraction: float = 0.2,
             salt: str = "0") -> dict[str, str]:  # fmt: skip
    classes = sorted({member.label for member in members})
    return split_by_hash(members, classes, assigned=known or {}, fraction=fraction, salt=salt)


class TestRandom:
    @pytest.mark.parametrize("seed", [0, 1, 7, 42, 2**32 - 1])
    @pytest.mark.parametrize(("count", "fraction"), [(200, 0.2), (7, 0.2), (10, 0.25), (101, 0.33), (3, 0.5)])
    def test_is_exactly_train_test_split(self, count: int, fraction: float, seed: int) -> None:
        train, test = train_test_split(np.arange(count), test_size=fraction, random_state=seed)
        splits = np.array(split_at_random(count, fraction=fraction, seed=seed))
        assert set(np.flatnonzero(splits == "test")) == set(test)
        assert set(np.flatnonzero(splits == "train")) == set(train)


class TestHash:
    def test_a_group_tests_if_its_hash_is_below_the_fraction(self) -> None:
        members = singles("a", 200)
        for group, split in split_of(members, salt="5").items():
            value = int(hashlib.sha256(b"5" + group.encode()).hexdigest(), 16) / 2**256
            assert (split == "test") >= (value < 0.2)

    @pytest.mark.parametrize("salt", [str(seed) for seed in range(10)])
    def test_too_few_are_topped_up_by_lowest_hash_to_the_rounded_share(self, salt: str) -> None:
        members = singles("a", 24)
        order = sorted((member.group for member in members), key=lambda group: group_hash(group, salt))
        below = [group for group in order if group_hash(group, salt) < 0.2]
        splits = split_of(members, salt=salt)
        assert [group for group in order if splits[group] == "test"] == order[: max(len(below), 5)]
        splits = split_of(members, fraction=0.0001, salt=salt)
        assert [group for group in order if splits[group] == "test"] == order[:1]

    def test_new_groups_never_move_the_old_ones(self) -> None:
        first = split_of(singles("a", 50) + singles("b", 50))
        second = split_of(singles("a", 70) + singles("b", 50), known=first, salt="another")
        assert {group: second[group] for group in first} == first

    def test_only_new_groups_top_up(self) -> None:
        known = dict.fromkeys((member.group for member in singles("a", 9)), "train")
        splits = split_of(singles("a", 10), known=known, fraction=0.4)
        assert [group for group, split in splits.items() if split == "test"] == ["a9"]

    def test_a_group_of_many_counts_with_all_its_pictures(self) -> None:
        members = [Member(label="a", group="big")] * 30 + singles("a", 5)
        splits = split_of(members, known={"big": "test"}, fraction=0.2, salt="2")
        forced = [group for group in splits if group != "big" and group_hash(group, "2") >= 0.2]
        assert {splits[group] for group in forced} == {"train"}

    def test_the_salt_changes_the_assignment(self) -> None:
        members = singles("a", 100)
        assert split_of(members, salt="1") != split_of(members, salt="2")


class TestClassWithoutOneSide:
    @pytest.mark.parametrize(
        ("side", "counts"), [("train", "2 training and 0 test"), ("test", "0 training and 2 test")]
    )
    def test_is_a_named_error_with_the_fix(self, side: str, counts: str) -> None:
        with pytest.raises(SplitError, match=f"class 'a' has {counts}.*Add pictures of it that differ"):
            check_split(singles("a", 2), [side, side], ["a"])
        with pytest.raises(SplitError, match=r"another `dataset\.split\.seed` may do"):
            check_split(singles("a", 2), [side, side], ["a"])

    def test_of_a_given_split_is_told_to_be_the_sources(self) -> None:
        with pytest.raises(
            SplitError, match=r"split that the sources bring.*`split: \{method: random\}`"
        ) as caught:
            check_split(singles("a", 2), ["train", "train"], ["a"], is_given=True)
        assert "seed" not in str(caught.value)

    def test_one_picture_only(self) -> None:
        members = [*singles("a", 20), *singles("b", 1)]
        splits = split_of(members)
        with pytest.raises(SplitError, match="class 'b' has 0 training and 1 test pictures") as caught:
            check_split(members, [splits[member.group] for member in members], ["a", "b"])
        assert "leave the class out: list the others in `classes`" in str(caught.value)
        assert "seed" not in str(caught.value)  # no seed makes two groups of one

    def test_all_classes_are_named_at_once(self) -> None:
        members = [*singles("a", 2), *singles("b", 1), *singles("c", 3)]
        with pytest.raises(SplitError, match=r"class 'a' has.*class 'b' has.*pictures of them that differ"):
            check_split(members, ["train", "train", "test", "train", "test", "train"], ["a", "b", "c"])


class TestLongTails:
    @given(st.lists(st.integers(2, 6), min_size=1, max_size=20), st.text(max_size=3))
    def test_a_first_version_trains_and_tests_every_class_of_two_groups(
        self, counts: list[int], salt: str
    ) -> None:
        members = [member for number, count in enumerate(counts) for member in singles(f"c{number}_", count)]
        splits = split_of(members, salt=salt)
        sides = {(member.label, splits[member.group]) for member in members}
        assert len(sides) == 2 * len(counts)

    def test_a_group_of_two_classes_moves_only_if_both_keep_a_test(self) -> None:
        shared = [Member(label=label, group="shared") for label in ("a", "b")]
        for salt in map(str, range(50)):
            members = [*shared, *singles("a", 1), *singles("b", 1)]
            splits = split_of(members, salt=salt)
            assert {splits[member.group] for member in members if member.label == "a"} == {"train", "test"}

    def test_assigned_groups_stay_where_they_are(self) -> None:
        members = singles("a", 2)
        assert set(split_of(members, known={"a0": "test", "a1": "test"}).values()) == {"test"}
