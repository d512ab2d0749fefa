from __future__ import annotations

from typing import Any

import pytest

from pipeline.artifacts.manifest import ManifestRow
from pipeline.preprocess.dedup.grouping import Grouping
from pipeline.preprocess.quality_warnings import find_warnings
from tests.fakes.rows import manifest_row


def rows(count: int, label: str = "ant", **facts: Any) -> list[ManifestRow]:
    given = {"width": 100, "height": 100, "split": "train", **facts}
    return [
        manifest_row(
            id=f"{label}{number}",
            label=label,
            position=number,
            **{"group": f"{label}{number}", **given},
        )
        for number in range(count)
    ]


def issues(*parts: list[ManifestRow], pairs: list[tuple[str, str]] | None = None) -> list[str]:
    grouping = Grouping(near_pairs=pairs or [])
    return find_warnings([row for part in parts for row in part], grouping, is_random_split=True)


def test_a_sound_dataset_has_none() -> None:
    assert issues(rows(20), rows(50, "cat")) == []


def test_small_and_unequal_classes_are_named() -> None:
    found = issues(rows(9), rows(60, "cat"))
    assert found == [
        "small_class: ant has 9 pictures, fewer than 10",
        "class_imbalance: cat has 60 pictures and ant 9: more than 5 times as many",
    ]


def test_odd_sizes_and_shapes_are_counted() -> None:
    found = issues(rows(40), rows(12, "cat", width=300, height=300), rows(2, "strip", width=34, height=100))
    assert found[-2:] == [
        "odd_aspect_ratio: the shorter side of 2 pictures is less than 0.35 of the longer",
        "odd_size: 12 pictures are much larger or smaller than the others",
    ]


def test_sizes_that_differ_a_little_are_not_odd() -> None:
    assert issues(rows(30), rows(10, "cat", width=120, height=120)) == []


def test_near_duplicates_of_two_classes_and_of_two_sides_are_counted() -> None:
    one, other = rows(20, group="g"), rows(20, "cat", group="g", split="test")
    found = issues(one, other, pairs=[("ant1", "cat1"), ("ant1", "ant2"), ("ant1", "gone")])
    assert found[0] == "near_duplicates: 1 pairs carry different labels"
    assert "1 groups of near duplicates straddle the split" in found[1]


def test_labels_that_are_one_word_are_named_with_their_counts() -> None:
    counts = {"Cat": 12, "cat-": 13, "cats": 14, "box": 15, "boxes": 16, "dog": 17}
    found = issues(*(rows(count, label) for label, count in counts.items()))
    advice = "differ by case, spaces, accents or plural only; if they are one class, give them one name"
    assert found == [
        f"similar_labels: Cat (12) and cat- (13) and cats (14) {advice}",
        f"similar_labels: box (15) and boxes (16) {advice}",
    ]


def test_labels_that_end_alike_are_not_similar() -> None:
    assert issues(rows(12, "glass"), rows(13, "gas"), rows(14, "bus")) == []


@pytest.mark.parametrize(
    ("name", "is_altered"),
    [
        ("aug_12.jpg", True),
        ("kangaroo_flip.png", True),
        ("IMG_0042-hflip.jpeg", True),
        ("cat_rot90.png", True),
        ("cat_jpg.rf.0123456789abcdef0123456789abcdef.jpg", True),
        ("august_2024.jpg", False),
        ("parrot.jpg", False),
        ("flipper.jpg", False),
        ("surf.rf.jpg", False),
    ],
)
def test_names_of_exported_augmentation_are_a_hint(name: str, is_altered: bool) -> None:
    found = issues(rows(20, source_url=f"file:///pictures/flip/{name}"), rows(20, "cat"))
    assert [text.partition(":")[0] for text in found] == ["augmented_names"] * is_altered
    assert all(name in text for text in found)
