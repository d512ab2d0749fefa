"""Uploads: what is kept and what is refused, and the source that gives them to a run."""

from __future__ import annotations

import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image

from pipeline.artifacts.folders import encode_label
from pipeline.artifacts.takedowns import Takedown, write_takedowns
from pipeline.artifacts.uploads import list_pictures, read_uploads
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.sources.source import SourceContext
from pipeline.errors import ConfigError, DamagedObject, EmptyDataset, StorageError
from pipeline.preprocess import uploads
from pipeline.preprocess.preview import preview_dataset
from pipeline.preprocess.uploads import NewPicture, UploadKeeper, UploadResult, check_label, keep_archive
from pipeline.storage import Storage
from tests.fakes.pictures import encode, folder_of, noise, png, storage_in
from tests.fakes.rows import index_rows, workspace_of

NAME = "toys"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_of(storage_in(tmp_path))


def pictures(*seeds: int) -> list[NewPicture]:
    return [NewPicture(name=f"{seed}.png", data=png(noise(seed))) for seed in seeds]


def tiny(number: int) -> bytes:
    """A picture unlike those of other numbers."""
    return encode(Image.frombytes("RGB", (2, 2), number.to_bytes(12, "big")), "PNG")


def upload(workspace: Workspace, label: str, *new: NewPicture, by: str = "ann") -> UploadResult:
    return UploadKeeper(workspace, NAME, by=by).keep(label, new)


def classifier(*sources: dict[str, object]) -> Classifier:
    return Classifier.from_dict({"name": NAME, "dataset": {"sources": list(sources)}})


def fetch(workspace: Workspace, *sources: dict[str, object]) -> dict[str, int]:
    result = fetch_pictures(workspace, classifier(*sources))
    counts: dict[str, int] = {}
    for row in index_rows(workspace.storage, result.index):
        counts[row.label] = counts.get(row.label, 0) + 1
    return counts


class TestKeeping:
    def test_pictures_are_kept_by_label_and_digest_with_who_and_when(self, workspace: Workspace) -> None:
        assert upload(workspace, "ant", *pictures(1, 2)).added == 2
        folder = workspace.uploads(NAME)
        assert [each.label for each in list_pictures(folder)] == ["ant", "ant"]
        assert all(
            each.uri == f"gs://graft/uploads/toys/ant/{each.digest}.png" for each in list_pictures(folder)
        )
        [record] = read_uploads(folder)
        assert record.by == "ann"
        assert record.at.endswith("+00:00")
        assert [each.name for each in record.files] == ["1.png", "2.png"]

    def test_what_is_there_is_neither_written_nor_recorded_again(self, workspace: Workspace) -> None:
        upload(workspace, "ant", *pictures(1, 2))
        result = upload(workspace, "ant", *pictures(1, 2, 3, 3), by="bob")
        assert (result.added, result.known, result.refused) == (1, 3, [])
        assert len(list_pictures(workspace.uploads(NAME))) == 3
        assert sorted((each.by, len(each.files)) for each in read_uploads(workspace.uploads(NAME))) == [
            ("ann", 2),
            ("bob", 1),
        ]

    def test_many_people_at_once_lose_and_double_nothing(self, workspace: Workspace) -> None:
        new = pictures(*range(12))
        keepers = [UploadKeeper(workspace, NAME, by=f"user{number}") for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda keeper: keeper.keep("ant", new), keepers))
        assert sum(result.added for result in results) == 12
        assert sum(result.known for result in results) == 36
        assert len(list_pictures(workspace.uploads(NAME))) == 12

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty_file"),
            (b"<html>no picture", "not_an_image"),
            (png(noise(1))[:-40], "truncated"),
            (b"\0\0\0\x18ftypheic" + bytes(40), "unsupported_format"),
        ],
    )
    def test_what_a_run_would_leave_out_is_refused_with_the_reason(
        self, workspace: Workspace, data: bytes, reason: str
    ) -> None:
        result = upload(workspace, "ant", NewPicture(name="../../x\n.png", data=data), *pictures(2))
        assert [(each.name, each.reason) for each in result.refused] == [
            ("x\N{REPLACEMENT CHARACTER}.png", reason)
        ]
        assert result.added == 1

    def test_formats_that_a_run_converts_are_kept_as_they_are(self, workspace: Workspace) -> None:
        data = encode(Image.fromarray(noise(1)), "TIFF")
        assert upload(workspace, "ant", NewPicture(name="x", data=data)).added == 1
        [picture] = list_pictures(workspace.uploads(NAME))
        assert picture.uri.endswith(".tif")
        assert workspace.storage.read_bytes(picture.uri) == data

    def test_a_file_of_another_class_is_refused_and_names_it(self, workspace: Workspace) -> None:
        upload(workspace, "ant", *pictures(1))
        [refused] = upload(workspace, "cat", *pictures(1)).refused
        assert refused.reason == "conflicting_labels"
        assert refused.text.endswith(": ant")

    def test_a_file_that_two_people_send_for_two_classes_stays_for_one(self, workspace: Workspace) -> None:
        ann, bob = (UploadKeeper(workspace, NAME, by=by) for by in ("ann", "bob"))
        assert ann.keep("ant", pictures(1, 2)).added == 2
        result = bob.keep("bee", pictures(2, 3))  # who saw nothing of hers when he began
        assert (result.added, [each.reason for each in result.refused]) == (1, ["conflicting_labels"])
        assert result.refused[0].text.endswith(": ant")
        assert [each.label for each in list_pictures(workspace.uploads(NAME))] == ["ant", "ant", "bee"]

    def test_a_file_that_is_written_for_two_classes_at_the_same_time_stays_for_none(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create, both = Storage.create_bytes, Barrier(2)

        def meet(storage: Storage, uri: str, data: bytes) -> bool:
            is_new = create(storage, uri, data)
            both.wait(60)
            return is_new

        keepers = {label: UploadKeeper(workspace, NAME, by=label) for label in ("ant", "bee")}
        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(Storage, "create_bytes", meet)
            results = list(pool.map(lambda label: keepers[label].keep(label, pictures(1)), keepers))
        kept = list_pictures(workspace.uploads(NAME))
        assert sum(result.added for result in results) == len(kept) <= 1
        assert {each.reason for result in results for each in result.refused} == {"conflicting_labels"}
        assert upload(workspace, "ant", *pictures(1)).added == 1 - len(kept)

    def test_an_archive_with_a_file_in_two_classes_keeps_it_once(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for label in ("ant", "bee"):
                for number in (1, {"ant": 2, "bee": 3}[label]):
                    archive.writestr(f"{label}/{number}.png", png(noise(number)))
        context = SourceContext(storage=workspace.storage, previous={}, policy=FetchPolicy.from_environment())
        results = list(keep_archive(UploadKeeper(workspace, NAME, by="ann"), path, context))
        [refused] = [each for result in results for each in result.refused]
        assert (refused.reason, refused.text.endswith(": ant")) == ("conflicting_labels", True)
        assert sum(result.added for result in results) == 3

    def test_a_file_that_was_recorded_for_another_class_but_never_written_is_taken(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> bool:
            raise StorageError("No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "create_bytes", fail)
            with pytest.raises(StorageError):
                upload(workspace, "bee", *pictures(1))
        assert upload(workspace, "ant", *pictures(1)).added == 1

    def test_what_was_taken_down_does_not_come_back(self, workspace: Workspace) -> None:
        upload(workspace, "ant", *pictures(1))
        [picture] = list_pictures(workspace.uploads(NAME))
        takedown = Takedown(id=None, blobs=[picture.digest], urls=[], at="2026-11-27")
        write_takedowns(workspace.dataset(NAME), [takedown])
        workspace.storage.delete(picture.uri)
        assert [each.reason for each in upload(workspace, "ant", *pictures(1)).refused] == ["taken_down"]

    def test_limits_are_reasons(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(uploads, "MAX_PICTURES", 2)
        monkeypatch.setattr(uploads, "MAX_PICTURE_BYTES", 2000)
        large = NewPicture(name="large.png", data=png(noise(9, size=64)))
        result = upload(workspace, "ant", large, *pictures(1, 2, 3))
        assert result.added == 2
        assert [each.reason for each in result.refused] == ["too_large", "too_many_pictures"]

    @pytest.mark.soak
    def test_of_a_hundred_thousand_files_as_many_as_fit_are_kept_and_the_others_told(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.fsync", lambda file: None)  # a disk that others use too takes minutes for it
        people = [UploadKeeper(workspace, NAME, by=by) for by in ("ann", "bob")]
        counts: Counter[str] = Counter()
        for start in range(0, 100_000, 100):
            numbers = range(start, start + 100)
            new = [NewPicture(name=f"{number}.png", data=tiny(number)) for number in numbers]
            for keeper, files in zip(people, (new[:60], new[40:]), strict=True):  # twenty by both
                result = keeper.keep("ant", files)
                counts += Counter(added=result.added, known=result.known)
                counts += Counter(each.reason for each in result.refused)
        kept = list_pictures(workspace.uploads(NAME))
        assert counts["added"] == len(kept) == len({each.digest for each in kept})
        assert uploads.MAX_PICTURES <= len(kept) < 2 * uploads.MAX_PICTURES  # two who began at nothing
        assert counts["added"] + counts["known"] + counts["too_many_pictures"] == 120_000
        assert upload(workspace, "ant", NewPicture(name="x", data=tiny(200_000))).refused
        assert UploadKeeper(workspace, NAME, by="ann").keep("ant", [NewPicture(name="x", data=tiny(0))]).known

    def test_a_full_disk_keeps_what_came_before_and_the_rest_can_be_sent_again(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = Storage.create_bytes
        room = [2]

        def fill(storage: Storage, uri: str, data: bytes) -> bool:
            if not room[0]:
                raise StorageError("No space left on device")
            room[0] -= 1
            return create(storage, uri, data)

        monkeypatch.setattr(Storage, "create_bytes", fill)
        with pytest.raises(StorageError, match="No space left"):
            upload(workspace, "ant", *pictures(1, 2, 3))
        room[0] = 9
        result = upload(workspace, "ant", *pictures(1, 2, 3))
        assert (result.added, result.known) == (1, 2)


class TestLabels:
    @pytest.mark.parametrize(
        "label", ["a/b", "..", ".hidden", "100%", "a%2Fb", "a\\b", "Grünspecht", "猫", "x" * 200]
    )
    def test_any_name_of_visible_characters_comes_back_as_it_is(
        self, workspace: Workspace, label: str
    ) -> None:
        upload(workspace, label, *pictures(1))
        [picture] = list_pictures(workspace.uploads(NAME))
        assert picture.label == label
        assert picture.uri.count("/") == 6
        assert not encode_label(label).startswith(".")

    @pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\x00b", "\ud800", "猫" * 100, "x" * 201])
    def test_others_are_refused(self, label: str) -> None:
        with pytest.raises(ConfigError, match="class"):
            check_label(label)


class TestSource:
    def test_uploads_are_added_to_the_pictures_of_other_sources(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        folder = folder_of(tmp_path / "data", {"ant": 3, "cat": 3})
        upload(workspace, "ant", *pictures(101))
        upload(workspace, "dog", *pictures(102, 103))
        sources = ({"type": "folder", "uri": str(folder)}, {"type": "uploads"})
        assert fetch(workspace, *sources) == {"ant": 4, "cat": 3, "dog": 2}

    def test_they_change_no_class_of_a_folder_with_a_common_root(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        folder_of(tmp_path / "data" / "all", {"ant": 2, "cat": 2})
        upload(workspace, "ant", *pictures(101))
        sources = ({"type": "folder", "uri": str(tmp_path / "data")}, {"type": "uploads"})
        assert fetch(workspace, *sources) == {"ant": 3, "cat": 2}

    def test_a_folder_of_one_class_is_enough_beside_them(self, workspace: Workspace, tmp_path: Path) -> None:
        folder = folder_of(tmp_path / "data", {"ant": 2})
        upload(workspace, "dog", *pictures(102))
        sources = ({"type": "folder", "uri": str(folder)}, {"type": "uploads"})
        assert fetch(workspace, *sources) == {"ant": 2, "dog": 1}

    def test_classes_choose_and_order_them(self, workspace: Workspace) -> None:
        for number, label in enumerate(("ant", "cat", "dog")):
            upload(workspace, label, *pictures(number))
        value = {"type": "uploads", "classes": ["dog", "ant"]}
        assert fetch(workspace, value) == {"ant": 1, "dog": 1}
        preview = preview_dataset(workspace, classifier(value), FetchPolicy())
        assert list(preview.classes) == ["dog", "ant"]
        assert "uploads left out, whose classes are not listed: cat (1)" in preview.statements
        with pytest.raises(EmptyDataset, match="'eel', which `classes` lists"):
            fetch(workspace, {"type": "uploads", "classes": ["dog", "eel"]})

    def test_without_any_the_error_says_where_to_add_some(self, workspace: Workspace) -> None:
        with pytest.raises(EmptyDataset, match=r"\*Add pictures\*.*graft dataset add"):
            fetch(workspace, {"type": "uploads"})

    def test_a_second_run_reads_only_what_is_new(self, workspace: Workspace) -> None:
        upload(workspace, "ant", *pictures(1, 2))
        fetch_pictures(workspace, classifier({"type": "uploads"}))
        upload(workspace, "cat", *pictures(3))
        result = fetch_pictures(workspace, classifier({"type": "uploads"}))
        assert (result.found, result.downloaded, result.reused) == (3, 1, 2)

    def test_a_damaged_file_is_named(self, workspace: Workspace) -> None:
        upload(workspace, "ant", *pictures(1))
        [picture] = list_pictures(workspace.uploads(NAME))
        workspace.storage.write_bytes(picture.uri, b"other bytes")
        with pytest.raises(DamagedObject, match=picture.digest):
            fetch(workspace, {"type": "uploads"})
