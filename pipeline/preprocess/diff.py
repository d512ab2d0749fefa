"""What changed between two versions of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from pipeline.artifacts.manifest import ManifestRow

Change: TypeAlias = dict[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDiff:
    """Changes among the kept pictures; each entry has `id`, `label` and `source_url`.

    Args:
        added: Kept by the new version only.
        removed: Kept by the old version only; with the `reason`, if the new version knows one.
        moved: On the other side of the split, with `from` and `to`.
        relabelled: Of another class, with `from` and `to`.
    """

    added: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)
    moved: list[Change] = field(default_factory=list)
    relabelled: list[Change] = field(default_factory=list)

    def to_dict(self) -> dict[str, list[Change]]:
        """Return plain JSON values."""
        names = ("added", "removed", "moved", "relabelled")
        return {name: getattr(self, name) for name in names}


def diff_versions(old: Iterable[ManifestRow], new: Iterable[ManifestRow]) -> DatasetDiff:
    """Compare two versions picture by picture; the same pixels are the same picture."""
    before = _kept(old)
    rows = list(new)
    after, reasons = _kept(rows), {row.id: row.reason for row in rows if row.reason}
    diff = DatasetDiff()
    diff.added.extend(_describe(row) for id, row in after.items() if id not in before)
    for id, row in before.items():
        if id not in after:
            diff.removed.append({**_describe(row), "reason": reasons.get(id)})
            continue
        now = after[id]
        if now.split != row.split:
            diff.moved.append({**_describe(now), "from": row.split, "to": now.split})
        if now.label != row.label:
            diff.relabelled.append({**_describe(now), "from": row.label, "to": now.label})
    return diff


def _kept(rows: Iterable[ManifestRow]) -> dict[str, ManifestRow]:
    return {row.id: row for row in rows if row.split is not None and row.id is not None}


def _describe(row: ManifestRow) -> Change:
    return {"id": row.id, "label": row.label, "source_url": row.source_url}
