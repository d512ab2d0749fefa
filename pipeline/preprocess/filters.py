"""Rules that keep a decoded picture out, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.artifacts.manifest import ManifestRow, RowStatus
from pipeline.preprocess.reasons import (
    CONFLICTING_LABELS,
    EXACT_DUPLICATE,
    LOW_INFORMATION,
    PLACEHOLDER,
    STRADDLES_SPLIT,
    TOO_SMALL,
)
from pipeline.preprocess.split import TEST, TRAIN

PLACEHOLDER_URLS = 3
NETWORK_MIN_SIDE = 64  # pixels


def apply_network_filters(rows: Sequence[ManifestRow], network: Collection[int]) -> list[ManifestRow]:
    """Keep out what the network gives instead of pictures: placeholders, icons and blanks.

    Args:
        rows: Every row of the version.
        network: Positions of the rows whose bytes came from the network.
    """
    urls: dict[str, set[str]] = {}
    for row in rows:
        if row.position in network and row.blob:
            urls.setdefault(row.blob, set()).add(row.source_url)
    placeholders = {blob for blob, addresses in urls.items() if len(addresses) >= PLACEHOLDER_URLS}
    marked = []
    for row in rows:
        reason = _network_reason(row, placeholders) if row.position in network and row.is_kept else None
        marked.append(quarantine(row, reason) if reason else row)
    return marked


def _network_reason(row: ManifestRow, placeholders: Collection[str]) -> str | None:
    fingerprint = row.fingerprint
    if row.blob in placeholders:
        return PLACEHOLDER
    if fingerprint is None or min(fingerprint.width or 0, fingerprint.height or 0) < NETWORK_MIN_SIDE:
        return TOO_SMALL
    # So flat that a perceptual hash would be made of noise.
    return LOW_INFORMATION if fingerprint.phash is None else None


def mark_exact_duplicates(
    rows: Sequence[ManifestRow], given_sides: Mapping[int, str | None] | None = None
) -> list[ManifestRow]:
    """Keep the first of equal pictures; where their labels differ, keep none: which is right is unknown.

    Args:
        rows: Every row of the version.
        given_sides: The side that the source gives a picture, by position. Of equal pictures on both sides,
            the one in the test set is kept, and the copies in the training set straddle the split.
    """
    given_sides = given_sides or {}
    labels: dict[str, set[str]] = {}
    first: dict[str, ManifestRow] = {}
    for row in rows:
        if row.is_kept and row.id is not None:
            labels.setdefault(row.id, set()).add(row.label)
            tests_first = (
                given_sides.get(row.position) == TEST != given_sides.get(first.get(row.id, row).position)
            )
            if row.id not in first or tests_first:
                first[row.id] = row
    marked = []
    for row in rows:
        if row.is_kept and row.id is not None:
            kept = first[row.id]
            if len(labels[row.id]) > 1:
                row = quarantine(row, CONFLICTING_LABELS)
            elif {given_sides.get(kept.position), given_sides.get(row.position)} == {TEST, TRAIN}:
                row = quarantine(row, STRADDLES_SPLIT)
            elif row is not kept:
                row = replace(row, status=RowStatus.DUPLICATE, reason=EXACT_DUPLICATE)
        marked.append(row)
    return marked


def quarantine(row: ManifestRow, reason: str) -> ManifestRow:
    """Return the row kept out for a reason."""
    return replace(row, status=RowStatus.QUARANTINED, reason=reason)
