from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.split_registry import SplitRegistry
from pipeline.artifacts.steps import CleanResult
from pipeline.artifacts.takedowns import Takedown, write_takedowns
from pipeline.errors import ConfigError, EmptyDataset
from pipeline.storage import Storage
from tests.fakes.pictures import fetch_and_clean, folder_classifier, folder_of, storage_in
from tests.fakes.rows import dataset_folder, manifest_rows


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})


def clean(toys: Path, storage: Storage) -> CleanResult:
    return fetch_and_clean(folder_classifier(toys), storage)[1]


def rows_of(result: CleanResult, storage: Storage) -> list[ManifestRow]:
    return manifest_rows(storage, result.version)


def decide(storage: Storage, *lines: str) -> None:
    text = "\r\n".join(["picture,action,label", *lines]) + "\r\n"
    storage.write_bytes(dataset_folder(storage, "toys").decisions, text.encode("utf-8-sig"))


class TestDecisions:
    def test_delete_and_relabel_are_applied_on_the_next_run_and_recorded(
        self, toys: Path, storage: Storage
    ) -> None:
        before = rows_of(clean(toys, storage), storage)
        ant, cat = before[0], before[-1]
        decide(storage, f"{ant.id},delete,", f"{cat.source_url},relabel,ant")
        result = clean(toys, storage)
        after = rows_of(result, storage)
        assert (after[0].status, after[0].reason, after[0].decision) == ("quarantined", "deleted", "delete")
        assert (after[-1].label, after[-1].decision) == ("ant", "relabel from cat")
        assert after[-1].split == cat.split
        assert result.classes == {"ant": 12, "cat": 11}
        assert result.rejected == {"deleted": 1}
        assert result.decoded == 0
        assert storage.exists(f"{result.uri}/decisions.csv")
        assert "Decided: 1 delete." in storage.read_bytes(f"{result.uri}/README.md").decode()

    def test_the_same_decisions_give_the_same_version(self, toys: Path, storage: Storage) -> None:
        picture = rows_of(clean(toys, storage), storage)[3]
        decide(storage, f"{picture.blob[:12]},delete,")
        assert clean(toys, storage).version == clean(toys, storage).version

    def test_a_relabel_settles_a_conflict(self, toys: Path, storage: Storage) -> None:
        (toys / "cat" / "same.png").write_bytes((toys / "ant" / "0003.png").read_bytes())
        assert clean(toys, storage).rejected == {"conflicting_labels": 2}
        decide(storage, f"{(toys / 'cat' / 'same.png').as_uri()},relabel,ant")
        result = clean(toys, storage)
        assert result.rejected == {"exact_duplicate": 1}
        assert result.classes == {"ant": 12, "cat": 12}

    def test_a_confirmed_label_changes_nothing_until_the_source_says_otherwise(
        self, toys: Path, storage: Storage
    ) -> None:
        before = clean(toys, storage)
        picture = rows_of(before, storage)[0]
        decide(storage, f"{picture.id},confirm,ant")
        assert clean(toys, storage).version == before.version
        (toys / "ant" / "0000.png").rename(toys / "cat" / "moved.png")
        result = clean(toys, storage)
        [moved] = [row for row in rows_of(result, storage) if row.id == picture.id]
        assert (moved.label, moved.decision) == ("ant", "relabel from cat")

    def test_the_last_line_about_a_picture_wins(self, toys: Path, storage: Storage) -> None:
        picture = rows_of(clean(toys, storage), storage)[0]
        decide(storage, f"{picture.id},delete,", f"{picture.source_url},relabel,cat")
        assert clean(toys, storage).classes == {"ant": 11, "cat": 13}

    def test_a_line_that_names_no_picture_is_a_warning(self, toys: Path, storage: Storage) -> None:
        decide(storage, "0123456789ab,delete,")
        assert clean(toys, storage).warnings == ["decisions.csv, line 2 names no picture: 0123456789ab"]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("abc,delete,", "line 2: `picture` is an id"),
            ("0123456789ab,drop,", "line 2: `action` is delete, relabel or confirm"),
            ("0123456789ab,relabel,", "line 2: `relabel` and `confirm` need a `label`"),
            ("0123456789ab,confirm,", "line 2: `relabel` and `confirm` need a `label`"),
            ("0123456789ab,delete,cat", "line 2: .*`delete` takes none"),
            ("0123456789ab,relabel,dog", "line 2: 'dog' is no class"),
        ],
    )
    def test_a_wrong_line_is_named_before_any_work(
        self, toys: Path, storage: Storage, line: str, message: str
    ) -> None:
        decide(storage, line)
        with pytest.raises(ConfigError, match=message):
            clean(toys, storage)

    def test_a_file_with_another_head_is_refused(self, toys: Path, storage: Storage) -> None:
        storage.write_bytes(dataset_folder(storage, "toys").decisions, b"file,verdict\n")
        with pytest.raises(ConfigError, match="first line must be picture,action,label"):
            clean(toys, storage)

    def test_a_class_that_was_deleted_whole_is_an_error(self, toys: Path, storage: Storage) -> None:
        cats = [row for row in rows_of(clean(toys, storage), storage) if row.label == "cat"]
        decide(storage, *(f"{row.id},delete," for row in cats))
        with pytest.raises(EmptyDataset, match="12 deleted"):
            clean(toys, storage)


class TestTakedowns:
    def test_nothing_of_the_picture_is_in_the_next_version(self, toys: Path, storage: Storage) -> None:
        before = rows_of(clean(toys, storage), storage)
        gone = before[5]
        takedown = Takedown(id=gone.id, blobs=[gone.blob], urls=[gone.source_url], at="2026-01-01")
        write_takedowns(dataset_folder(storage, "toys"), [takedown])
        result = clean(toys, storage)
        text = storage.read_bytes(f"{result.uri}/manifest.jsonl").decode()
        assert result.rejected == {"taken_down": 1}
        assert result.pictures == 23
        assert gone.fingerprint is not None
        looks = (gone.fingerprint.phash, gone.fingerprint.alignment_thumbnail)
        for trace in (gone.id, gone.blob, gone.source_url, *looks):
            assert str(trace) not in text
        assert gone.id not in {seen.id for seen in SplitRegistry(dataset_folder(storage)).rows()}

    def test_an_equal_picture_from_another_place_stays_out(self, toys: Path, storage: Storage) -> None:
        gone = rows_of(clean(toys, storage), storage)[0]
        write_takedowns(dataset_folder(storage, "toys"), [Takedown(id=gone.id, blobs=[], urls=[], at="t")])
        (toys / "ant" / "copy.png").write_bytes((toys / "ant" / "0000.png").read_bytes())
        assert clean(toys, storage).rejected == {"taken_down": 2}
