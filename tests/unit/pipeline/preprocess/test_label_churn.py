"""Labels of known pictures that changed between two dataset versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.dataset import DataOutcome, read_latest
from pipeline.artifacts.manifest import ManifestRow
from pipeline.config import ExpectConfig
from pipeline.errors import ExpectationFailed
from pipeline.preprocess.expectations import Snapshot, check_expectations
from pipeline.preprocess.label_churn import LabelChurn, find_label_churn
from tests.fakes.pictures import fetch_and_clean, folder_classifier, folder_of, storage_in
from tests.fakes.rows import dataset_folder, manifest_row

NOTHING = Snapshot(pictures={}, found=0, rejected={}, mix={})


def rows(labels: str, **changes: Any) -> list[ManifestRow]:
    """Rows whose labels are the letters of a text."""
    return [
        manifest_row(id=f"p{number}", label=label, source_url=f"https://a.org/{number}", **changes)
        for number, label in enumerate(labels)
    ]


class TestChurn:
    def test_counts_known_pictures_by_pair_of_labels_with_examples(self) -> None:
        churn = find_label_churn(rows("aaaabbbb"), rows("aabbbbbaab"))
        assert (churn.compared, churn.share) == (8, 3 / 8)
        assert churn.changed == {("a", "b"): 2, ("b", "a"): 1}
        assert churn.text == (
            "a to b 2, b to a 1; for example https://a.org/2, https://a.org/3, https://a.org/7"
        )

    def test_of_new_pictures_alone_is_none(self) -> None:
        assert find_label_churn([], rows("ab")).share == 0

    @pytest.mark.parametrize("side", ["old", "new"])
    def test_leaves_out_what_a_person_decided(self, side: str) -> None:
        decided = {"decision": "relabel from a"}
        old = rows("aabb", **(decided if side == "old" else {}))
        new = rows("abbb", **(decided if side == "new" else {}))
        assert find_label_churn(old, new).changed == {}

    def test_leaves_out_classes_that_only_one_version_has(self) -> None:
        assert find_label_churn(rows("aabb"), rows("ccbb")).changed == {}, "a was renamed"
        assert find_label_churn(rows("aabb"), rows("acbb")).changed == {}, "a was divided"

    def test_of_a_class_that_was_renamed_counts_as_of_any_other(self) -> None:
        churn = find_label_churn(rows("aaaaaabbbbbb"), rows("ccccbbccbbbb"))
        assert churn.changed == {("a", "b"): 2, ("b", "c"): 2}, "a is called c now"

    def test_leaves_out_classes_that_became_one(self) -> None:
        assert find_label_churn(rows("aabbcc"), rows("ddddcc")).changed == {}

    def test_leaves_out_pictures_that_are_not_kept(self) -> None:
        assert find_label_churn(rows("aabb"), rows("abab", status="quarantined")).compared == 0


class TestRule:
    @pytest.mark.parametrize(
        ("changed", "outcome"), [(10, DataOutcome.OK), (11, DataOutcome.FAIL)], ids=["at", "over"]
    )
    def test_fails_above_a_tenth(self, changed: int, outcome: DataOutcome) -> None:
        churn = LabelChurn(compared=100, changed={("a", "b"): changed}, examples=("u",))
        verdict = check_expectations(NOTHING, None, ExpectConfig(), churn=churn)
        assert verdict.outcome is outcome

    def test_names_counts_pairs_and_examples(self) -> None:
        churn = LabelChurn(compared=10, changed={("a", "b"): 4, ("b", "a"): 1}, examples=("u", "v"))
        [reason] = check_expectations(NOTHING, None, ExpectConfig(), churn=churn).reasons
        assert reason == (
            "label_churn (fail): 5 of 10 known pictures (50%, over 10%) changed their label: a to b 4, "
            "b to a 1; for example u, v"
        )

    def test_warns_where_it_is_set_to(self) -> None:
        churn = LabelChurn(compared=10, changed={("a", "b"): 5}, examples=("u",))
        expect = ExpectConfig(label_churn="warn", max_label_churn=0.4)
        assert check_expectations(NOTHING, None, expect, churn=churn).outcome is DataOutcome.WARN


def test_a_third_of_exchanged_labels_stops_the_run_after_clean(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    folder = folder_of(tmp_path / "toys", {"ant": 12, "bee": 12})
    fetch_and_clean(folder_classifier(folder), storage)
    before = read_latest(dataset_folder(storage)).version
    for number in range(4):
        one, other = folder / "ant" / f"{number:04d}.png", folder / "bee" / f"{number:04d}.png"
        data = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(data)
    with pytest.raises(
        ExpectationFailed, match=r"label_churn \(fail\): 8 of 24 .*ant to bee 4, bee to ant 4"
    ):
        fetch_and_clean(folder_classifier(folder), storage)
    assert read_latest(dataset_folder(storage)).version == before
