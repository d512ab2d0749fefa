from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts.evaluation import SplitChanges
from pipeline.evaluate.champion import Champion, read_champion_pictures
from pipeline.evaluate.evaluation import find_split_changes
from pipeline.evaluate.predictions import read_test_rows
from pipeline.evaluate.tested import TestSet as Tests
from pipeline.storage import Storage
from tests.fakes.pictures import fetch_and_clean, folder_classifier, folder_of, storage_in
from tests.fakes.rows import dataset_folder


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def changes_between(storage: Storage, before: str, now: str) -> SplitChanges | None:
    old, new = dataset_folder(storage).version(before), dataset_folder(storage).version(now)
    champion = Champion(version="v1", job="", output_path="", classes=(), dataset_uri=old.uri)
    pictures = read_champion_pictures(storage, champion)
    assert pictures is not None
    return find_split_changes(new, pictures, Tests(rows=read_test_rows(new), classes=("ant", "cat")))


def test_another_way_to_choose_test_pictures_is_told(tmp_path: Path, storage: Storage) -> None:
    toys = folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})
    before, now = (
        fetch_and_clean(folder_classifier(toys, method=method), storage)[1] for method in ("hash", "random")
    )
    changes = changes_between(storage, before.version, now.version)
    assert changes is not None
    assert (changes.before, changes.now) == ("hash", "random")
    assert changes.to_test > 0
    assert changes.to_train - changes.to_test == before.test_pictures - now.test_pictures


def test_new_pictures_of_the_same_split_are_no_change(tmp_path: Path, storage: Storage) -> None:
    toys = folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})
    before = fetch_and_clean(folder_classifier(toys), storage)[1]
    folder_of(toys, {"ant": 4, "cat": 4}, first=500)
    now = fetch_and_clean(folder_classifier(toys), storage)[1]
    assert changes_between(storage, before.version, now.version) is None
