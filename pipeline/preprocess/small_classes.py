"""Classes that have too few different pictures to be trained and tested."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from pipeline.artifacts.manifest import ManifestRow
from pipeline.config.dataset import MergeInto, SmallClasses
from pipeline.preprocess.filters import quarantine
from pipeline.preprocess.reasons import SMALL_CLASS

MIN_GROUPS = 2
SHOWN = 20


def find_small_classes(
    rows: Sequence[ManifestRow], classes: Sequence[str], *, is_random_split: bool
) -> list[str]:
    """Return the classes whose kept pictures are fewer than two groups of near duplicates.

    A random split does not keep groups together, so pictures count there.
    """
    groups: dict[str, set[str | None]] = {}
    for row in rows:
        if row.group is not None:
            groups.setdefault(row.label, set()).add(row.id if is_random_split else row.group)
    return [label for label in classes if len(groups.get(label, ())) < MIN_GROUPS]


def treat_small_classes(
    rows: Sequence[ManifestRow], small: Sequence[str], treatment: SmallClasses
) -> tuple[list[ManifestRow], str]:
    """Leave small classes out, or give their pictures the label of another class.

    Returns:
        The rows, and what a reader of the card should know.
    """
    kept = [row for row in rows if row.group is not None]
    counts = {label: sum(row.label == label for row in kept) for label in small}
    listed = list_counts(counts)
    if isinstance(treatment, MergeInto):
        target = treatment.merge_into
        merged = [_merge(row, target) if row.label in counts and row.label != target else row for row in rows]
        return merged, f"small_class: merged into {target}: {listed}"
    left = [_leave_out(row, small) for row in rows]
    return left, (
        f"small_class: left out, because fewer than {MIN_GROUPS} different pictures can be either trained or "
        f"tested: {listed}. Add pictures, or set `dataset.small_classes`"
    )


def list_counts(counts: dict[str, int]) -> str:
    """Return classes with their counts, smallest first; the first twenty of many."""
    ordered = sorted(counts.items(), key=lambda item: (item[1], item[0]))
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(f"{label} ({count})" for label, count in ordered[:SHOWN]) + more


def _merge(row: ManifestRow, target: str) -> ManifestRow:
    return replace(row, label=target, decision=row.decision or f"relabel from {row.label}")


def _leave_out(row: ManifestRow, small: Collection[str]) -> ManifestRow:
    if row.label not in small or row.group is None:
        return row
    return replace(quarantine(row, SMALL_CLASS), group=None)
