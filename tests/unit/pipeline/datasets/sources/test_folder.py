from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.sources.folder import FolderSource
from pipeline.datasets.sources.layout import lay_out
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


class TestOtherPeoplesFolders:
    def source(self, folder: Path, **options: Any) -> tuple[list[SourceEntry], list[str]]:
        source = FolderSource(str(folder), classes=None, storage=Storage({}), **options)
        return list(source.entries(0, 1)), source.statements

    def test_a_split_keeps_its_classes_and_its_test_set(self, tmp_path: Path) -> None:
        folder_of(tmp_path / "kaggle" / "train", {"cat": 3, "ant": 2})
        folder_of(tmp_path / "kaggle" / "test", {"cat": 1, "ant": 1}, first=50)
        found, statements = self.source(tmp_path)
        assert [(entry.label, entry.split) for entry in found] == [
            ("ant", "test"),
            ("ant", "train"),
            ("ant", "train"),
            ("cat", "test"),
            ("cat", "train"),
            ("cat", "train"),
            ("cat", "train"),
        ]
        assert statements == [
            "given_split: test (2), train (5) are parts of a split, not classes; 2 pictures are the test set"
        ]

    def test_what_a_mac_leaves_is_left_out_and_counted(self, folder: Path) -> None:
        folder_of(folder / "__MACOSX", {"ant": 2})
        (folder / "ant" / "Thumbs.db").write_bytes(b"x")
        (folder / "ant" / "._0000.png").write_bytes(b"x")
        found, [statement] = self.source(folder)
        assert {entry.label for entry in found} == {"ant", "cat"}
        assert statement == ("files left out: 1 Thumbs.db, 2 __MACOSX, 1 hidden")

    def test_linked_folders_inside_a_class_are_followed(self, folder: Path, tmp_path: Path) -> None:
        more = folder_of(tmp_path / "disk", {"more": 2}, first=70)
        (folder / "ant" / "batch2").symlink_to(more / "more")
        found, statements = self.source(folder)
        assert [entry.label for entry in found].count("ant") == 4
        assert statements == []

    def test_links_that_lead_back_or_nowhere_are_counted(self, folder: Path) -> None:
        (folder / "ant" / "up").symlink_to(folder)
        (folder / "ant" / "gone.png").symlink_to(folder / "nowhere.png")
        found, [statement] = self.source(folder)
        assert len(found) == 5
        assert statement == "files left out: 1 broken links, 1 links that lead back to a folder above"

    def test_links_to_a_folder_beside_them_are_read_once_and_counted(self, folder: Path) -> None:
        (folder / "latest").symlink_to("ant")
        (folder / ".hidden").mkdir()
        (folder / ".hidden" / "7.png").write_bytes(b"x")
        (folder / "bee").symlink_to(".hidden")
        found, [statement] = self.source(folder)
        assert {entry.label for entry in found} >= {"ant", "bee"}
        assert "latest" not in {entry.label for entry in found}
        assert "in links to a folder beside them" in statement

    def test_names_of_a_mac_are_those_of_the_yaml(self, tmp_path: Path) -> None:
        decomposed = unicodedata.normalize("NFD", "Känguru")
        folder_of(tmp_path, {decomposed: 2, "Bär": 1})
        found = entries_of(tmp_path, classes=["Känguru", "Bär"])
        assert [entry.label for entry in found] == ["Känguru", "Känguru", "Bär"]
        assert found[0].read is not None

    def test_a_list_beside_loose_pictures_tells_their_labels(self, tmp_path: Path) -> None:
        folder_of(tmp_path, {"images": 4})
        rows = ["images/0000.png;cat", "images/0001.png;dog", "images/0002.png;cat"]
        (tmp_path / "labels.csv").write_text("\n".join(["file;label", *rows]))
        found, statements = self.source(tmp_path)
        assert [entry.label for entry in found] == ["cat", "cat", "dog"]
        assert statements == ["files left out: 1 without a label in the list (0003.png)"]

    def test_a_hugging_face_folder_keeps_its_split(self, tmp_path: Path) -> None:
        for part, label in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
            folder_of(tmp_path / part, {label: 2})
            for path in (tmp_path / part / label).iterdir():
                path.rename(tmp_path / part / f"{label}{path.name}")
            (tmp_path / part / label).rmdir()
        for part in ("train", "test"):
            rows = [f"{label}000{n}.png,{label}" for label in ("cat", "dog") for n in range(2)]
            (tmp_path / part / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
        found, _ = self.source(tmp_path)
        assert [(entry.label, entry.split) for entry in found] == [
            (label, split) for label in ("cat", "dog") for split in ("test", "test", "train", "train")
        ]

    def test_classes_that_are_not_listed_are_named(self, folder: Path) -> None:
        source = FolderSource(str(folder), classes=["cat"], storage=Storage({}), is_alone=False)
        assert len(list(source.entries(0, 1))) == 3
        assert source.statements == ["classes left out, because `classes` does not list them: ant (2)"]

    def test_statements_are_made_once_for_all_chunks(self, folder: Path) -> None:
        (folder / "README.md").write_text("about")
        parts = []
        for chunk in range(3):
            source = FolderSource(str(folder), classes=None, storage=Storage({}))
            list(source.entries(chunk, 3))
            parts += source.statements
        assert parts == ["files left out: 1 beside the class folders (README.md)"]

    def test_a_bucket_is_read_by_the_same_rules(self, tmp_path: Path) -> None:
        folder_of(tmp_path / "toys" / "train", {"cat": 2, "ant": 2})
        folder_of(tmp_path / "toys" / "test", {"cat": 1, "ant": 1}, first=50)
        storage = Storage({"pics": tmp_path})
        names = [uri.removeprefix("gs://pics/toys/") for uri in storage.list_uris("gs://pics/toys/")]
        in_bucket = lay_out(names, origin="gs://pics/toys")
        found = entries_of("gs://pics/toys", storage=storage)
        placed = {f"gs://pics/toys/{file.name}": (file.label, file.split) for file in in_bucket.files}
        assert {entry.source_url: (entry.label, entry.split) for entry in found} == placed


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
