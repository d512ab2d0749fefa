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
VALIDATION = "validation"  # of a source's own split; such pictures train or judge
SPLIT_ANEW = "split all pictures anew: `split: {method: random}`"
OWN_SPLIT = "That is the split that the sources bring. "
LEAVE_OUT = "leave the class out: list the others in `classes`, or set `small_classes: drop`"


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
    training pictures tests too. A class that all tests after that gets its new group with the highest hash
    back for training, if it has two groups.

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
    _keep_one_for_training(splits, members, classes, hashes)
    return splits


def _keep_one_for_training(
    splits: dict[str, str], members: Sequence[Member], classes: Sequence[str], hashes: Mapping[str, float]
) -> None:
    """Move a new group of each class without a training picture to training, if no class loses its test."""
    labels: dict[str, set[str]] = {}
    for member in members:
        labels.setdefault(member.group, set()).add(member.label)
    tests = Counter(label for group, names in labels.items() if splits[group] == TEST for label in names)
    trained = {label for group, names in labels.items() if splits[group] == TRAIN for label in names}
    for label in classes:
        groups = (group for group in hashes if label in labels[group] and splits[group] == TEST)
        for group in sorted(groups, key=hashes.__getitem__, reverse=True):
            if label not in trained and all(tests[name] > 1 for name in labels[group]):
                splits[group] = TRAIN
                trained |= labels[group]
                tests.subtract(labels[group])


def split_at_random(num_pictures: int, *, fraction: float, seed: int) -> list[str]:
    """Return each picture's split, as `train_test_split(np.arange(n), test_size=, random_state=)` has it."""
    num_test = math.ceil(fraction * num_pictures)
    shuffled = np.random.RandomState(seed).permutation(num_pictures)
    splits = [TRAIN] * num_pictures
    for index in shuffled[:num_test]:
        splits[index] = TEST
    return splits


def check_split(
    members: Sequence[Member], splits: Sequence[str], classes: Sequence[str], *, is_given: bool = False
) -> None:
    """Make sure that every class can be trained and tested.

    Args:
        members: The kept pictures.
        splits: The side of each.
        classes: The classes.
        is_given: True if the sources bring their own split.

    Raises:
        SplitError: naming every class without both a training and a test picture.
    """
    counts = Counter((member.label, split) for member, split in zip(members, splits, strict=True))
    problems: list[str] = []
    remedies: dict[str, int] = {}
    for label in classes:
        train, test = counts[label, TRAIN], counts[label, TEST]
        if train and test:
            continue
        num_groups = len({member.group for member in members if member.label == label})
        problems.append(
            f"class {label!r} has {train} training and {test} test pictures ({num_groups} groups of near "
            "duplicates, which stay together)"
        )
        if is_given:
            remedies |= {LEAVE_OUT: 1, SPLIT_ANEW: 1}
        else:
            remedies[
                "another `dataset.split.seed` may do in a first version" if num_groups > 1 else LEAVE_OUT
            ] = 1
    if problems:
        them = "it" if len(problems) == 1 else "them"
        raise SplitError(
            f"{'; '.join(problems)}. {OWN_SPLIT if is_given else ''}Each class needs one of each. "
            f"Add pictures of {them} that differ. Or {'; '.join(remedies)}.",
            classes=len(problems),
        )
