"""A rolling window over the pictures of a dataset: the ones retrieved last are used, older ones left out.

Time is that of the pictures, not of the run, so that the same pictures give the same dataset version.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from pipeline.artifacts.manifest import ManifestRow
from pipeline.config.dataset import WindowConfig
from pipeline.preprocess.filters import quarantine
from pipeline.preprocess.reasons import OUTSIDE_WINDOW
from pipeline.preprocess.split import TEST

IMPORT_GAP = timedelta(minutes=10)  # without a picture read: then another import begins


def apply_window(rows: Sequence[ManifestRow], window: WindowConfig) -> list[ManifestRow]:
    """Return the rows, those outside the window kept out.

    Older test pictures leave only as far as `min_test` test pictures stay, the newest first: versions before
    and after are compared on the pictures that both were tested on.

    Args:
        rows: Rows with their sides.
        window: How far it reaches.
    """
    newest = _sort_newest([row for row in rows if row.is_kept and row.split is not None])
    inside = {row.position for row in _recent(newest, window)}
    older_tests = [row for row in newest if row.split == TEST and row.position not in inside]
    num_tests = sum(row.split == TEST and row.position in inside for row in newest)
    inside |= {row.position for row in older_tests[: max(0, window.min_test - num_tests)]}
    left = {row.position for row in newest} - inside
    return [_leave_out(row) if row.position in left else row for row in rows]


def describe_window(rows: Sequence[ManifestRow]) -> list[str]:
    """Return what the window left out, for the card."""
    count = sum(row.reason == OUTSIDE_WINDOW for row in rows)
    return [f"window: {count} older pictures are left out, as `dataset.window` says"] if count else []


def _sort_newest(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """Return rows by the import that read them, the last import first, and within one by content.

    An import reads class after class, so by time alone a window would leave out whole classes of it.
    """
    times = sorted({datetime.fromisoformat(row.retrieved_at) for row in rows})
    starts = [time for before, time in pairwise(times) if time - before > IMPORT_GAP]

    def place(row: ManifestRow) -> tuple[int, str, int]:
        number = bisect_right(starts, datetime.fromisoformat(row.retrieved_at))
        return number, row.id or "", row.position

    return sorted(rows, key=place, reverse=True)


def _leave_out(row: ManifestRow) -> ManifestRow:
    return replace(quarantine(row, OUTSIDE_WINDOW), group=None, split=None)


def _recent(newest: Sequence[ManifestRow], window: WindowConfig) -> Iterator[ManifestRow]:
    if window.pictures is not None:
        yield from newest[: window.pictures]
    elif newest:
        last = max(datetime.fromisoformat(row.retrieved_at) for row in newest)
        oldest = last - timedelta(days=window.days or 0)
        yield from (row for row in newest if datetime.fromisoformat(row.retrieved_at) >= oldest)
