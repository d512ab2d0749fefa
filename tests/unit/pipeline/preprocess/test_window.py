"""A rolling window: the newest pictures are used, and test pictures leave only when others are there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.manifest import ManifestRow, RowStatus
from pipeline.artifacts.provenance import Provenance
from pipeline.config import Classifier
from pipeline.config.dataset import WindowConfig
from pipeline.errors import SplitError
from pipeline.preprocess.window import apply_window, describe_window
from tests.fakes.pictures import fetch_and_clean, folder_of, storage_in
from tests.fakes.rows import manifest_rows

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(day: int, split: str | None = "train", *, reason: str | None = None) -> ManifestRow:
    return ManifestRow(
        blob=f"b{day}",
        label="ant",
        position=day,
        provenance=Provenance(source_url=f"file:///{day}"),
        retrieved_at=(START + timedelta(days=day)).isoformat(),
        status=RowStatus.KEPT if reason is None else RowStatus.QUARANTINED,
        group=f"g{day}",
        split=split,
        reason=reason,
    )


def fingerprint(id: str) -> ImageFingerprint:
    return ImageFingerprint(id=id, phash=None, colour="", alignment_thumbnail=None, width=8, height=8)


def toys(tmp_path: Path, window: dict[str, int]) -> Classifier:
    source = {"type": "folder", "uri": str(folder_of(tmp_path / "toys", {"ant": 12, "cat": 12}))}
    return Classifier.from_dict({"name": "toys", "dataset": {"source": source, "window": window}})


def days_kept(rows: list[ManifestRow]) -> list[int]:
    return [each.position for each in rows if each.is_kept]


def test_days_count_back_from_the_newest_picture() -> None:
    rows = apply_window([row(day) for day in range(10)], WindowConfig(days=3))
    assert days_kept(rows) == [6, 7, 8, 9]
    assert {each.reason for each in rows if not each.is_kept} == {"outside_window"}
    assert all(each.split is None and each.group is None for each in rows if not each.is_kept)
    assert describe_window(rows) == ["window: 6 older pictures are left out, as `dataset.window` says"]


def test_pictures_are_the_newest_ones() -> None:
    assert days_kept(apply_window([row(day) for day in (5, 2, 9, 1)], WindowConfig(pictures=2))) == [5, 9]


def test_pictures_of_one_moment_leave_by_content_not_by_place() -> None:
    ids = [f"{number * 7 % 10:064x}" for number in range(10)]
    rows = [replace(row(3), position=place, fingerprint=fingerprint(id)) for place, id in enumerate(ids)]
    kept = {each.id for each in apply_window(rows, WindowConfig(pictures=4)) if each.is_kept}
    assert kept == set(sorted(ids)[-4:])
    turned = [replace(each, position=9 - each.position) for each in rows]
    assert {each.id for each in apply_window(turned, WindowConfig(pictures=4)) if each.is_kept} == kept


@pytest.mark.parametrize("seconds", [0, 2, 300])
def test_an_import_that_takes_its_time_leaves_by_content_too(seconds: int) -> None:
    ids = sorted(f"{number * 7 % 10:064x}" for number in range(10))
    times = [(START + timedelta(seconds=seconds * place)).isoformat() for place in range(10)]
    older = replace(row(-1), fingerprint=fingerprint("f" * 64))
    rows = [
        replace(row(3), position=place, fingerprint=fingerprint(id), retrieved_at=time)
        for place, (id, time) in enumerate(zip(reversed(ids), times, strict=True))
    ]
    kept = apply_window([older, *rows], WindowConfig(pictures=4))
    assert [each.id for each in kept if each.is_kept] == ids[:5:-1]


@pytest.mark.parametrize(
    ("min_test", "kept"), [(1, [6, 7, 8, 9]), (2, [4, 6, 7, 8, 9]), (9, [2, 4, 6, 7, 8, 9])]
)
def test_old_test_pictures_stay_until_enough_newer_ones_are_there(min_test: int, kept: list[int]) -> None:
    rows = [row(day, "test" if day in (2, 4, 8) else "train") for day in range(10)]
    assert days_kept(apply_window(rows, WindowConfig(days=3, min_test=min_test))) == kept


def test_what_is_kept_out_already_is_left_alone() -> None:
    rows = [row(0, None, reason="corrupt"), row(9)]
    assert apply_window(rows, WindowConfig(days=1)) == rows
    assert describe_window(rows) == []


def test_a_window_that_leaves_a_class_nothing_to_train_with_is_refused(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    with pytest.raises(SplitError, match="(?i)needs one of each"):
        fetch_and_clean(toys(tmp_path, {"pictures": 1, "min_test": 1}), storage)


def test_a_version_has_the_newest_pictures_only(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    _, result = fetch_and_clean(toys(tmp_path, {"pictures": 18, "min_test": 1}), storage)
    rows = manifest_rows(storage, result.version)
    assert sum(each.is_kept for each in rows) in range(18, 20)
    assert any("window:" in warning for warning in result.warnings)
