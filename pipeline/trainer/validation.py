"""The validation split: whole groups of training pictures, so that no near duplicate is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import Int64Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray


def split_validation(
    ids: Sequence[str], labels: Int64Labels, groups: Mapping[str, str], *, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Return which training pictures validate.

    Of each class the groups of the lowest hashes are taken while they make up no more than the fraction of
    its pictures (one group at least), and one group at least is left to train. The choice depends on nothing
    but ids and seed, so it stays when pictures are added.

    Args:
        ids: The training pictures.
        labels: Class index of each.
        groups: Name of the group of each picture that shares one; any other is its own.
        fraction: Share of each class's pictures that validate.
        seed: Another seed chooses others.
    """
    members: dict[str, list[int]] = {}
    for row, id in enumerate(ids):
        members.setdefault(groups.get(id, id), []).append(row)
    by_class: dict[int, list[str]] = {}
    for name in sorted(members, key=lambda name: _hash(name, seed)):
        by_class.setdefault(int(labels[members[name][0]]), []).append(name)
    chosen = np.zeros(len(ids), np.bool_)
    for label, names in by_class.items():
        wanted = max(1, round(fraction * int((labels == label).sum())))
        taken = 0
        for name in names[:-1]:
            if taken and taken + len(members[name]) > wanted:
                continue
            chosen[members[name]] = True
            taken += len(members[name])
            if taken >= wanted:
                break
    return chosen


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"validation {seed} {name}".encode()).digest()
