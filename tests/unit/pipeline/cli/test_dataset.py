from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.steps import CleanResult
from pipeline.npz import read_npz
from pipeline.storage import Storage
from tests.fakes.model_record import lineage
from tests.fakes.pictures import WORKSPACE, classifier_of, fetch_and_clean, folder_classifier, folder_of
from tests.fakes.rows import dataset_folder, manifest_rows

Graft = Callable[..., Any]


class Toys:
    """A folder of pictures, and the versions made of it in the home of the command line."""

    def __init__(self, root: Path) -> None:
        self.root = folder_of(root, {"ant": 20, "cat": 20})
        self.storage = Storage.from_environment()

    def clean(self) -> CleanResult:
        return fetch_and_clean(folder_classifier(self.root), self.storage)[1]

    def rows(self, version: str) -> list[ManifestRow]:
        return manifest_rows(self.storage, version)

    def decide(self, *lines: str) -> None:
        text = "\n".join(["picture,action,label", *lines])
        self.storage.write_bytes(dataset_folder(self.storage, "toys").decisions, text.encode())


@pytest.fixture
def toys(tmp_path: Path, home: Path) -> Toys:
    return Toys(tmp_path / "toys")


class TestAdd:
    @pytest.fixture
    def classifier(self, home: Path) -> None:
        (home / "classifiers").mkdir(parents=True)
        text = "name: toys\ndataset:\n  source: {type: uploads}\n"
        (home / "classifiers" / "toys.yaml").write_text(text)

    def test_a_folder_is_uploaded_once_and_previewed(
        self, classifier: None, tmp_path: Path, graft: Graft
    ) -> None:
        root = folder_of(tmp_path / "toys", {"ant": 3, "cat": 2})
        (root / "ant" / "notes.txt").write_text("no picture")
        said = graft("dataset", "add", "toys", "ant", str(root / "ant"), "--json").document
        assert (said["added"], said["known"], said["refused"][0]["reason"]) == (3, 0, "not_an_image")
        text = graft("dataset", "add", "toys", "ant", str(root / "ant")).stdout
        assert "0 added, 3 already there, 1 refused" in text
        graft("dataset", "add", "toys", "cat", *map(str, sorted((root / "cat").iterdir())))
        preview = graft("dataset", "preview", "toys", "--json").document
        assert {label: each["pictures"] for label, each in preview["classes"].items()} == {"ant": 3, "cat": 2}

    def test_a_classifier_or_file_that_is_not_there_is_named(self, classifier: None, graft: Graft) -> None:
        assert "did you mean `toys`" in graft("dataset", "add", "toyz", "ant", "/").stderr
        outcome = graft("dataset", "add", "toys", "ant", "/nowhere.png")
        assert outcome.code == 2
        assert "/nowhere.png" in outcome.stderr


class TestShow:
    def test_json_is_the_documented_shape(self, toys: Toys, graft: Graft) -> None:
        (toys.root / "ant" / "text.jpg").write_text("no picture")
        result = toys.clean()
        assert graft("dataset", "show", "toys", "--json").document == {
            "version": result.version,
            "pictures": 40,
            "classes": {"ant": 20, "cat": 20},
            "rejected": {"not_an_image": 1},
            "licenses": {"not stated": 40},
            "requests": 0,
        }

    def test_text_tells_people_more(self, toys: Toys, graft: Graft) -> None:
        (toys.root / "ant" / "text.jpg").write_text("no picture")
        result = toys.clean()
        text = graft("dataset", "show", "toys").stdout
        for said in (result.version, "40 of 41 pictures found", "not_an_image", "card.html"):
            assert said in text

    def test_an_older_version_can_be_shown(self, toys: Toys, graft: Graft) -> None:
        first = toys.clean().version
        folder_of(toys.root, {"ant": 3}, first=20)
        toys.clean()
        assert graft("dataset", "show", "toys", "--version", first, "--json").document["pictures"] == 40

    def test_a_dataset_without_versions_says_how_to_make_one(self, graft: Graft) -> None:
        outcome = graft("dataset", "show", "toys")
        assert outcome.code == 1
        assert "it has none. Make one with `graft run toys`" in outcome.stderr

    def test_an_unknown_version_lists_the_known(self, toys: Toys, graft: Graft) -> None:
        version = toys.clean().version
        outcome = graft("dataset", "show", "toys", "--version", "d_0", "--json")
        assert outcome.code == 1
        assert version in outcome.document["error"]["message"]


class TestDiff:
    def test_names_every_change(self, toys: Toys, graft: Graft) -> None:
        first = toys.clean().version
        rows = toys.rows(first)
        gone, deleted, relabelled = rows[0], rows[1], rows[-1]
        Path(gone.source_url.removeprefix("file://")).unlink()
        toys.decide(f"{deleted.id},delete,", f"{relabelled.id},relabel,ant")
        folder_of(toys.root, {"cat": 1}, first=20)
        second = toys.clean().version
        changes = graft("dataset", "diff", "toys", "--json").document
        assert (changes["old"], changes["new"]) == (first, second)
        assert [entry["source_url"].endswith("cat/0020.png") for entry in changes["added"]] == [True]
        removed = {entry["id"]: entry["reason"] for entry in changes["removed"]}
        assert removed == {gone.id: None, deleted.id: "deleted"}
        [entry] = changes["relabelled"]
        assert (entry["id"], entry["from"], entry["to"]) == (relabelled.id, "cat", "ant")
        assert changes["moved"] == []
        text = graft("dataset", "diff", "toys", first, second).stdout
        assert "relabelled: 1" in text
        assert "cat to ant" in text
        back = graft("dataset", "diff", "toys", second, first, "--json").document
        assert {entry["id"] for entry in back["added"]} == set(removed)

    def test_pictures_that_change_sides_have_moved(self, toys: Toys, graft: Graft) -> None:
        old = toys.clean().version
        source = {"type": "folder", "uri": str(toys.root)}
        _, result = fetch_and_clean(classifier_of(source, method="random", seed=3), toys.storage)
        moved = graft("dataset", "diff", "toys", old, result.version, "--json").document["moved"]
        assert moved
        assert {(entry["from"], entry["to"]) for entry in moved} <= {("train", "test"), ("test", "train")}

    def test_the_first_version_has_nothing_before_it(self, toys: Toys, graft: Graft) -> None:
        toys.clean()
        outcome = graft("dataset", "diff", "toys")
        assert outcome.code == 2
        assert "first version of toys" in outcome.stderr


class TestExport:
    def test_writes_every_kept_picture_once(self, toys: Toys, graft: Graft, tmp_path: Path) -> None:
        result = toys.clean()
        target = tmp_path / "out"
        done = graft("dataset", "export", "toys", str(target), "--size", "8x12", "--json").document
        assert done["files"] == ["train-00000-of-00001.npz", "test-00000-of-00001.npz"]
        assert (done["train"], done["test"]) == (result.train_pictures, result.test_pictures)
        rows = {row.id: row for row in toys.rows(result.version)}
        seen: set[str] = set()
        for name in done["files"]:
            arrays = read_npz(target / name)
            assert arrays["features"].shape[1:] == (8, 12, 3)
            assert arrays["features"].dtype == np.uint8
            for id, label in zip(arrays["ids"], arrays["labels"], strict=True):
                row = rows[id.decode()]
                assert row.split == name.partition("-")[0]
                assert ["ant", "cat"][label] == row.label
                seen.add(id.decode())
        assert seen == set(rows)
        assert (target / "ATTRIBUTION.md").exists()

    def test_large_sides_are_several_files_and_the_names_say_how_many(
        self, toys: Toys, graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = toys.clean()
        monkeypatch.setattr("pipeline.preprocess.export.FILE_ROWS", 16)
        files = graft("dataset", "export", "toys", str(tmp_path / "out"), "--size", "8", "--json").document[
            "files"
        ]
        num_train = -(-result.train_pictures // 16)
        assert files[0] == f"train-00000-of-{num_train:05d}.npz"
        assert len([name for name in files if name.startswith("train")]) == num_train

    def test_an_export_is_a_source_again(self, toys: Toys, graft: Graft, tmp_path: Path) -> None:
        result = toys.clean()
        graft("dataset", "export", "toys", str(tmp_path / "out"), "--size", "16")
        source = {
            "type": "npz",
            "uri": str(tmp_path / "out" / "train-00000-of-00001.npz"),
            "classes": ["ant", "cat"],
        }
        _, again = fetch_and_clean(classifier_of(source), Storage({"graft": tmp_path / "other"}))
        assert again.pictures == result.train_pictures

    def test_files_of_another_export_are_not_mixed_in(self, toys: Toys, graft: Graft, tmp_path: Path) -> None:
        toys.clean()
        (tmp_path / "train-00000-of-00007.npz").write_bytes(b"x")
        outcome = graft("dataset", "export", "toys", str(tmp_path), "--size", "8")
        assert outcome.code == 1
        assert "train-00000-of-00007.npz" in outcome.stderr

    @pytest.mark.parametrize("size", ["0", "8x", "8x8x8", "big", "-4"])
    def test_a_size_that_is_none_is_a_usage_error(
        self, toys: Toys, graft: Graft, tmp_path: Path, size: str
    ) -> None:
        toys.clean()
        assert graft("dataset", "export", "toys", str(tmp_path), f"--size={size}").code == 2

    def test_without_a_yaml_a_size_is_asked_for(self, toys: Toys, graft: Graft, tmp_path: Path) -> None:
        toys.clean()
        outcome = graft("dataset", "export", "toys", str(tmp_path))
        assert outcome.code == 2
        assert "--size HEIGHTxWIDTH" in outcome.stderr


class TestForget:
    def lineage(self, toys: Toys, model: str, dataset_version: str) -> None:
        uri = f"gs://graft/models/toys/{model}/graft/lineage.json"
        lineage(dataset_version=dataset_version).write(toys.storage, uri)

    def test_lists_what_it_reaches_and_the_next_version_is_without_it(self, toys: Toys, graft: Graft) -> None:
        version = toys.clean().version
        picture = next(row for row in toys.rows(version) if row.split == "train")
        self.lineage(toys, "v_1", version)
        self.lineage(toys, "v_2", "d_other")
        said = graft("dataset", "forget", "toys", str(picture.id)[:12], "--json").document
        assert said["ids"] == [picture.id]
        assert said["urls"] == [picture.source_url]
        assert said["versions"] == {version: "train"}
        assert said["models"] == [{"version": "v_1", "dataset_version": version, "used_for": "train"}]
        after = toys.clean()
        assert after.rejected == {"taken_down": 1}
        assert picture.id not in {row.id for row in toys.rows(after.version)}

    def test_an_address_takes_down_what_came_from_it(self, toys: Toys, graft: Graft) -> None:
        version = toys.clean().version
        picture = toys.rows(version)[0]
        (toys.root / "ant" / "zz.png").write_bytes((toys.root / "ant" / "0000.png").read_bytes())
        text = graft("dataset", "forget", "toys", picture.source_url).stdout
        assert f"dataset version {version} holds it" in text
        assert toys.clean().rejected == {"taken_down": 2}

    def test_an_address_that_is_not_there_yet_stays_out(self, toys: Toys, graft: Graft) -> None:
        toys.clean()
        late = toys.root / "ant" / "late.png"
        assert graft("dataset", "forget", "toys", late.as_uri(), "--json").document["versions"] == {}
        folder_of(toys.root, {"ant": 1}, first=20)
        (toys.root / "ant" / "0020.png").rename(late)
        assert toys.clean().rejected == {"taken_down": 1}

    def test_again_changes_nothing(self, toys: Toys, graft: Graft) -> None:
        version = toys.clean().version
        picture = str(toys.rows(version)[0].id)
        uri = f"{WORKSPACE}/datasets/toys/takedowns.jsonl"
        graft("dataset", "forget", "toys", picture)
        before = toys.storage.read_bytes(uri)
        graft("dataset", "forget", "toys", picture)
        assert toys.storage.read_bytes(uri) == before

    @pytest.mark.parametrize("name", ["abc", "0123456789abcdef", "picture.jpg"])
    def test_a_name_that_fits_nothing_is_a_usage_error(self, toys: Toys, graft: Graft, name: str) -> None:
        toys.clean()
        outcome = graft("dataset", "forget", "toys", name)
        assert outcome.code == 2
        assert "names no picture of toys" in outcome.stderr
