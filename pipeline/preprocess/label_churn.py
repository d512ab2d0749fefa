"""Pictures that both the latest dataset version and the new one have, under different labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.manifest import ManifestRow

COLUMNS = ("id", "label", "status", "decision")
MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChurn:
    """How many known pictures changed their label.

    Args:
        compared: Pictures that both versions keep.
        changed: How many of them went from one label to another.
        examples: Addresses of some of these.
    """

    compared: int = 0
    changed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of known pictures that changed their label."""
        return sum(self.changed.values()) / self.compared if self.compared else 0.0

    @property
    def text(self) -> str:
        """Counts by pair of labels, and examples."""
        ordered = sorted(self.changed.items(), key=lambda pair: (-pair[1], pair[0]))
        pairs = ", ".join(f"{old} to {new} {count}" for (old, new), count in ordered)
        return f"{pairs}; for example {', '.join(self.examples)}"


def find_label_churn(old: Iterable[ManifestRow], new: Iterable[ManifestRow]) -> LabelChurn:
    """Compare the labels of the pictures that two versions keep.

    A label that a person decided on is no churn, nor is one of a class that only one version has: that is a
    change of classes, see `gate.classes_changed`. A class that was renamed is the same class.
    """
    before = {row.id: row for row in old if row.is_kept and row.id is not None}
    kept = [row for row in new if row.is_kept and row.id is not None]
    pairs = [(before[row.id], row) for row in kept if row.id in before]
    names = _find_names(before.values(), kept, pairs)
    changed = [
        (one, other)
        for one, other in pairs
        if names.get(one.label, other.label) != other.label
        and other.label in names.values()
        and one.decision is None
        and other.decision is None
    ]
    return LabelChurn(
        compared=len(pairs),
        changed=Counter((one.label, other.label) for one, other in changed),
        examples=tuple(other.source_url for _, other in changed[:MAX_EXAMPLES]),
    )


def _find_names(
    before: Collection[ManifestRow],
    after: Collection[ManifestRow],
    pairs: Iterable[tuple[ManifestRow, ManifestRow]],
) -> dict[str, str]:
    """Return what each class that both versions have is called now, by what it was called."""
    old, new = {row.label for row in before}, {row.label for row in after}
    moves = ((one.label, other.label) for one, other in pairs)
    successors = ClassChanges.between(sorted(old), sorted(new), moves).successors
    renamed = {before: now for before, now in successors.items() if now not in old}
    return {label: label for label in old & new} | renamed
