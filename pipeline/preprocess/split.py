"""Which pictures test and which train."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SplitError

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A kept picture as the split sees it."""

    label: str
    group: str


def group_hash(group: str, salt: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the group's name and the salt."""
    return int.from_bytes(hashlib.sha256((salt + group).encode()).digest()) / 2**256


def split_by_hash(
    members: Sequence[Member],
    classes: Sequence[str],
    *,
    assigned: Mapping[str, str],
    fraction: float,
    salt: str,
) -> dict[str, str]:
    """Assign every group, leaving the ones an earlier version assigned where they are.

    A new group tests if its hash is below the fraction. Then, while a class has fewer than
    `max(1, round(fraction * n))` test pictures, the new group with the lowest hash that holds one of its
    training pictures tests too.

    Args:
        members: The kept pictures.
        classes: The classes, in the order they are topped up.
        assigned: Split of the groups of earlier versions.
        fraction: Share of the pictures kept for the test.
        salt: Changes the assignment of new groups.

    Returns:
        `train` or `test` by group.
    """
    hashes = {m.group: group_hash(m.group, salt) for m in members if m.group not in assigned}
    splits = {m.group: assigned[m.group] for m in members if m.group in assigned}
    splits.update({group: TEST if value < fraction else TRAIN for group, value in hashes.items()})
    for label in classes:
        in_class = Counter(member.group for member in members if member.label == label)
        wanted = max(1, round(fraction * in_class.total()))
        spare = sorted((g for g in in_class if g in hashes and splits[g] == TRAIN), key=hashes.__getitem__)
        while spare and sum(count for group, count in in_class.items() if splits[group] == TEST) < wanted:
            splits[spare.pop(0)] = TEST
    return splits


def split_at_random(num_pictures: int, *, fraction: float, seed: int) -> list[str]:
    """Return each picture's split, as `train_test_split(np.arange(n), test_size=, random_state=)` has it."""
    num_test = math.ceil(fraction * num_pictures)
    shuffled = np.random.RandomState(seed).permutation(num_pictures)
    splits = [TRAIN] * num_pictures
    for index in shuffled[:num_test]:
        splits[index] = TEST
    return splits


def check_split(members: Sequence[Member], splits: Sequence[str], classes: Sequence[str]) -> None:
    """Make sure that every class can be trained and tested.

    Raises:
        SplitError: naming the first class without both a training and a test picture.
    """
    counts = Counter((member.label, split) for member, split in zip(members, splits, strict=True))
    for label in classes:
        train, test = counts[label, TRAIN], counts[label, TEST]
        if train and test:
            continue
        num_groups = len({member.group for member in members if member.label == label})
        remedy = (
            "In a first version another `dataset.split.seed` may do."
            if num_groups > 1
            else "Or leave the class out: list the others in `classes`."
        )
        raise SplitError(
            f"class {label!r} has {train} training and {test} test pictures; it needs one of each. Add "
            f"pictures of it that differ: its {train + test} are {num_groups} groups of near duplicates, "
            f"which stay together. {remedy}",
            label=label,
            train=train,
            test=test,
        )
