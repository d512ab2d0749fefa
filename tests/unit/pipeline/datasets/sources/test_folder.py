from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.datasets.sources.folder import FolderSource
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import EmptyDataset, SourceNotFound
from pipeline.storage import Storage
from tests.fakes.pictures import folder_of


def entries_of(uri: object, *, classes: list[str] | None = None, chunk: int = 0, num_chunks: int = 1,
               storage: Storage | None = None) -> list[SourceEntry]:  # fmt: skip
    source = FolderSource(str(uri), classes=classes, storage=storage or Storage({}))
    return list(source.entries(chunk, num_chunks))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"cat": 3, "ant": 2})


class TestWhatIsFound:
    def test_classes_and_files_come_sorted(self, folder: Path) -> None:
        found = entries_of(folder)
        assert [entry.label for entry in found] == ["ant", "ant", "cat", "cat", "cat"]
        assert [entry.position for entry in found] == [0, 1, 2, 3, 4]
        assert found[0].source_url == (folder / "ant" / "0000.png").as_uri()
        assert found[2].read() == (folder / "cat" / "0000.png").read_bytes()

    def test_classes_of_the_yaml_decide_order_and_choice(self, folder: Path) -> None:
        folder_of(folder, {"bee": 1})
        found = entries_of(folder, classes=["cat", "ant"])
        assert [entry.label for entry in found] == ["cat", "cat", "cat", "ant", "ant"]

    def test_dot_files_and_loose_files_are_left_out_deeper_folders_are_not(self, folder: Path) -> None:
        (folder / "SOURCE.md").write_text("about")
        (folder / ".git").mkdir()
        (folder / "ant" / ".DS_Store").write_bytes(b"x")
        (folder / "ant" / "more").mkdir()
        (folder / "ant" / "more" / "z.jpg").write_bytes(b"text")
        names = [entry.source_url.rsplit("/", 1)[1] for entry in entries_of(folder) if entry.label == "ant"]
        assert names == ["0000.png", "0001.png", "z.jpg"]

    @pytest.mark.parametrize("num_chunks", [1, 2, 3, 7])
    def test_chunks_together_are_the_whole(self, folder: Path, num_chunks: int) -> None:
        parts = [entries_of(folder, chunk=chunk, num_chunks=num_chunks) for chunk in range(num_chunks)]
        assert sorted(entry.position for part in parts for entry in part) == [0, 1, 2, 3, 4]

    def test_file_uri_and_mapped_bucket_find_the_same(self, folder: Path) -> None:
        storage = Storage({"pics": folder.parent})
        in_bucket = entries_of("gs://pics/toys", storage=storage)
        assert in_bucket[0].source_url == "gs://pics/toys/ant/0000.png"
        assert [entry.read() for entry in in_bucket] == [
            entry.read() for entry in entries_of(folder.as_uri())
        ]

    def test_validator_changes_with_the_file(self, folder: Path) -> None:
        before = entries_of(folder)[0].validator
        os.utime(folder / "ant" / "0000.png", (1, 1))
        assert entries_of(folder)[0].validator != before


class TestWhatIsRefused:
    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"no folder .*/nowhere; correct `dataset\.source\.uri`"):
            entries_of(tmp_path / "nowhere")

    def test_one_class_only(self, tmp_path: Path) -> None:
        with pytest.raises(EmptyDataset, match=r"1 class folder\(s\); .*at least two.*\['cat'\]"):
            entries_of(folder_of(tmp_path, {"cat": 3}))

    def test_empty_class_folder_is_named(self, folder: Path) -> None:
        (folder / "bee").mkdir()
        with pytest.raises(EmptyDataset, match=r"toys/bee has no file; add pictures"):
            entries_of(folder)

    def test_listed_class_without_a_folder(self, folder: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"no sub-folder 'dog'.*Received: ant, cat"):
            entries_of(folder, classes=["cat", "dog"])

    def test_file_that_is_gone_or_locked(self, folder: Path) -> None:
        entry = entries_of(folder)[0]
        (folder / "ant" / "0000.png").unlink()
        with pytest.raises(SourceNotFound, match=r"ant/0000\.png cannot be read"):
            entry.read()
