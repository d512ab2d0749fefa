"""The real data sets, cleaned and packed: figures that a change of a limit would move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from pipeline.storage import Storage
from tests.fakes.pictures import (
    classifier_of,
    fetch_and_clean,
    folder_classifier,
    storage_in,
)
from tests.fakes.rows import manifest_rows

pytestmark = pytest.mark.shared_data


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def test_the_articles_archive_splits_as_the_article_did(shared_data: Path, storage: Storage) -> None:
    path = shared_data / "opera_capitol" / "opera_capitol_thumbs.npz"
    source = {"type": "npz", "uri": str(path), "classes": ["opera house", "capitol"]}
    _, result = fetch_and_clean(classifier_of(source, method="random", seed=42), storage)
    assert (result.pictures, result.test_pictures, result.rejected) == (200, 40, {})
    rows = manifest_rows(storage, result.version)
    _, test = train_test_split(np.arange(200), test_size=0.2, random_state=42)
    assert {row.position for row in rows if row.split == "test"} == set(test)
    labels = np.load(path)["labels"]
    assert [row.label == "capitol" for row in rows] == [bool(label) for label in labels]


@pytest.mark.parametrize(
    ("name", "pictures", "groups", "issues"),
    [
        ("kangaroo_raccoon", 358, 355, ["files left out", "odd_aspect_ratio"]),
        ("sign_digits", 1028, 1028, ["files left out"]),
    ],
)
def test_only_real_near_duplicates_are_grouped(
    shared_data: Path, storage: Storage, name: str, pictures: int, groups: int, issues: list[str]
) -> None:
    _, result = fetch_and_clean(folder_classifier(shared_data / name), storage)
    rows = manifest_rows(storage, result.version)
    assert result.pictures == pictures
    assert [warning.partition(":")[0] for warning in result.warnings] == issues
    assert result.expect.to_dict() == {"outcome": "ok", "reasons": []}
    assert len({row.group for row in rows}) == groups
    share = result.test_pictures / pictures
    assert 0.15 < share < 0.25
