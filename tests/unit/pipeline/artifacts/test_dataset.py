from __future__ import annotations

from dataclasses import replace

from pipeline.artifacts.manifest import version_of
from tests.fakes.rows import manifest_row

ROW = manifest_row(label="cat", source_url="gs://a/0.png")


class TestVersion:
    def test_changes_with_the_order_of_the_classes_for_their_indices_do(self) -> None:
        assert version_of([ROW], ["cat", "dog"]) != version_of([ROW], ["dog", "cat"])

    def test_changes_with_the_order_of_the_rows(self) -> None:
        other = replace(ROW, blob="c", position=1)
        assert version_of([ROW, other], ["cat"]) != version_of([other, ROW], ["cat"])

    def test_does_not_change_with_the_time_of_reading(self) -> None:
        assert version_of([ROW], ["cat"]) == version_of([replace(ROW, retrieved_at="now")], ["cat"])
