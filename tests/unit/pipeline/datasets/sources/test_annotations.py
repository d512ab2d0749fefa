from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.fetch_index import FetchIndex
from pipeline.config import Classifier
from pipeline.config.sources import ListColumns
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.annotations import read_document, read_voc
from pipeline.errors import ConfigError, DatasetError, EmptyDataset, SourceNotFound
from pipeline.storage import Storage
from tests.fakes.pictures import classifier_of, noise, png, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of


def task(*choices: list[str], file: str = "a.png", **facts: Any) -> dict[str, Any]:
    results = [{"result": [{"value": {"choices": each}}], **facts} for each in choices]
    return {"data": {"image": file}, "annotations": results}


def box(name: str, side: int) -> str:
    corners = f"<xmin>0</xmin><ymin>0</ymin><xmax>{side}</xmax><ymax>{side}</ymax>"
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


class TestLargest:
    def test_boxes_of_one_category_add_up(self) -> None:
        text = f"<annotation>{box('cat', 5)}{box('dog', 6)}{box('cat', 5)}</annotation>"
        boxes = read_voc(text.encode(), "a.xml")
        assert boxes.areas == {"cat": 50, "dog": 36}
        assert boxes.choose("largest") == "cat"

    @pytest.mark.parametrize(
        "text", ["<html/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "<annotation/>"]
    )
    def test_other_xml_says_nothing(self, text: str) -> None:
        assert not read_voc(text.encode(), "a.xml").areas

    def test_damaged_xml_is_named(self) -> None:
        with pytest.raises(SourceNotFound, match="b.xml is damaged XML"):
            read_voc(b"<annotation>", "b.xml")

    def test_a_picture_of_several_categories_is_told(self) -> None:
        document = {
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
            "annotations": [
                {"image_id": 7, "category_id": 1, "bbox": [0, 0, 3, 3]},
                {"image_id": 7, "category_id": 2, "area": 50.5},
            ],
        }
        result = read_document(document, "coco.json")
        assert result.rows == [{"file": "a.png", "label": "dog"}, {"file": "b.png", "label": ""}]
        assert "1 pictures show several categories" in result.statements[0]


class TestLabelFrom:
    """Of pictures with a large cat and two small dogs, with one of each alike, and with a cat alone."""

    BOXES: Mapping[str, str] = {
        "a": box("cat", 9) + box("dog", 2) + box("dog", 3),
        "b": box("cat", 4) + box("dog", 4),
        "c": box("cat", 3),
        "d": box("dog", 3),
    }
    LABELS: Mapping[str, Mapping[str, str]] = {
        "largest": {"a": "cat", "c": "cat", "d": "dog"},
        "most": {"a": "dog", "c": "cat", "d": "dog"},
        "only": {"c": "cat", "d": "dog"},
    }
    WORDS: Mapping[str, str] = {
        "largest": "that which covers most was taken",
        "most": "that with most boxes was taken",
        "only": "they are unlabelled, as `label_from: only` says",
    }

    def lists(self, kind: str) -> dict[str, bytes]:
        if kind == "voc":
            texts = {name: f"<annotation>{boxes}</annotation>" for name, boxes in self.BOXES.items()}
            return {f"{name}.xml": text.encode() for name, text in texts.items()}
        annotations = [
            {"image_id": name, "category_id": label, "bbox": [0, 0, int(side), int(side)]}
            for name, boxes in self.BOXES.items()
            for label, side in re.findall(r"<name>(\w+)</name>.*?<ymax>(\d+)", boxes)
        ]
        document = {
            "categories": [{"id": name, "name": name} for name in ("cat", "dog")],
            "images": [{"id": name, "file_name": f"{name}.png"} for name in self.BOXES],
            "annotations": annotations,
        }
        return {"coco.json": json.dumps(document).encode()}

    @pytest.mark.parametrize("kind", ["coco", "voc"])
    @pytest.mark.parametrize("label_from", [None, "largest", "most", "only"])
    def test_chooses_the_category(
        self, tmp_path: Path, storage: Storage, kind: str, label_from: str | None
    ) -> None:
        files = {f"{name}.png": b"" for name in self.BOXES} | self.lists(kind)
        section = {} if label_from is None else {"label_from": label_from}
        labels = fetch(tmp_path / "a", storage, files, **section)
        key = label_from or "largest"
        assert labels == {f"{name}.png": label for name, label in self.LABELS[key].items()}
        several = [each for each in statements(storage) if each.startswith("annotations: ")]
        assert len(several) == (1 if key == "only" else 2)
        assert self.WORDS[key] in several[0]
        assert key == "only" or "none more than another: they are unlabelled" in several[1]

    def test_is_taken_from_a_list_of_addresses_too(self, tmp_path: Path, storage: Storage) -> None:
        for name in self.BOXES:
            (tmp_path / f"{name}.png").write_bytes(png(noise(ord(name))))
        (tmp_path / "coco.json").write_bytes(self.lists("coco")["coco.json"])
        source = {"type": "url_list", "uri": str(tmp_path / "coco.json"), "label_from": "most"}
        result = fetch_pictures(workspace_of(storage), classifier_of(source))
        labels = {Path(row.source_url).stem: row.label for row in index_rows(storage, result.index)}
        assert {name: label for name, label in labels.items() if label} == self.LABELS["most"]

    def test_of_another_word_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="label_from"):
            classifier_of({"type": "folder", "uri": "x", "label_from": "first"})


class TestLabelStudio:
    def test_annotators_who_disagree_leave_a_picture_unlabelled(self) -> None:
        result = read_document(
            [task(["cat"], ["dog"]), task(["cat"], ["dog"], ["cat"], file="b.png")], "a.json"
        )
        assert result.rows == [{"file": "a.png", "label": ""}, {"file": "b.png", "label": "cat"}]
        assert "1 pictures have annotators who disagree" in result.statements[0]

    def test_cancelled_annotations_do_not_count(self) -> None:
        assert read_document([task(["cat"], was_cancelled=True)], "a.json").rows[0]["label"] == ""

    SEVERAL = [
        {
            "data": {"image": "a.png", "photo": "b.png"},
            "annotations": [
                {
                    "result": [
                        {"from_name": "animal", "value": {"choices": ["cat"]}},
                        {"from_name": "sharp", "value": {"choices": ["yes"]}},
                        {"from_name": "parts", "value": {"choices": ["ear", "tail"]}},
                    ]
                }
            ],
        }
    ]

    def test_of_several_questions_the_one_that_is_named_gives_the_labels(self) -> None:
        rows = read_document(self.SEVERAL, "a.json", ListColumns(label="Animal")).rows
        assert rows == [{"file": "a.png", "Animal": "cat"}]
        rows = read_document(self.SEVERAL, "a.json", ListColumns(label="sharp", file="photo")).rows
        assert rows == [{"photo": "b.png", "sharp": "yes"}]

    @pytest.mark.parametrize(
        ("columns", "match"),
        [
            (None, r"asks several questions; .*`columns: \{label: animal\}`. Received: animal \(1\), sharp"),
            (ListColumns(label="breed"), r"does not ask 'breed'; .*Received: animal \(1\), sharp \(1\)"),
            (ListColumns(label="parts"), "object 1 has several labels: ear, tail"),
            (ListColumns(label="animal", file="picture"), "object 1 has no text 'picture' in `data`"),
        ],
    )
    def test_several_questions_are_never_pooled(self, columns: ListColumns | None, match: str) -> None:
        with pytest.raises(SourceNotFound, match=match):
            read_document(self.SEVERAL, "a.json", columns)

    def test_several_choices_are_refused(self) -> None:
        with pytest.raises(DatasetError, match="object 1 has several labels: cat, dog"):
            read_document([task(["cat", "dog"])], "a.json")

    @pytest.mark.parametrize(
        ("address", "file"),
        [
            ("/data/local-files/?d=pets/1.png", "pets/1.png"),
            ("/data/upload/3/1a2b3c4d-1.png", "1a2b3c4d-1.png"),
            ("https://example.org/1.png", "https://example.org/1.png"),
        ],
    )
    def test_addresses_of_its_own_become_files(self, address: str, file: str) -> None:
        assert read_document([task(["cat"], file=address)], "a.json").rows[0]["file"] == file


def test_a_plain_object_names_files() -> None:
    assert read_document({"a.png": "cat"}, "a.json").rows == [{"file": "a.png", "label": "cat"}]


@pytest.mark.parametrize("value", [["cat", "dog"], {"a.png": 1}, {}, {"labels": {"a": "b"}}])
def test_json_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(SourceNotFound, match="JSON of another shape; expected COCO"):
        read_document(value, "a.json")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


def fetch(root: Path, storage: Storage, files: dict[str, bytes], **section: object) -> dict[str, str]:
    for number, (name, data) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data or png(noise(number)))
    source = {"type": "folder", "uri": str(root), **section}
    result = fetch_pictures(workspace_of(storage), classifier_of(source))
    return {Path(row.source_url).name: row.label for row in index_rows(storage, result.index)}


def statements(storage: Storage) -> list[str]:
    return list(FetchIndex.of_last_run(dataset_folder(storage)).head().statements)


class TestBesideThePictures:
    FILES = {f"images/{name}{n}.png": b"" for name in "cd" for n in range(2)}

    def test_one_document_in_one_line_is_read(self, tmp_path: Path, storage: Storage) -> None:
        document = json.dumps({name: name[7] for name in self.FILES}).encode()
        assert fetch(tmp_path / "a", storage, {"labels.json": document, **self.FILES}) == {
            "c0.png": "c", "c1.png": "c", "d0.png": "d", "d1.png": "d",
        }  # fmt: skip

    def test_annotations_without_a_picture_are_not_read(self, tmp_path: Path, storage: Storage) -> None:
        files = {f"{label}/{n}.png": b"" for label in ("cat", "dog") for n in range(2)}
        labels = fetch(tmp_path / "a", storage, {**files, "cat/pom.xml": b"<project/>"})
        assert set(labels.values()) == {"cat", "dog"}

    def test_one_file_in_two_parts_of_a_split_is_refused(self, tmp_path: Path, storage: Storage) -> None:
        text = b"file,label,split\nc0.png,c,train\nd0.png,d,train\nimages/c0.png,c,test\n"
        with pytest.raises(EmptyDataset, match=r"line 4, puts images/c0.png into the test part"):
            fetch(tmp_path / "a", storage, {"labels.csv": text, **self.FILES})

    def test_the_question_of_label_studio_is_chosen_by_its_column(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        results = {
            name: [
                {"from_name": "kind", "value": {"choices": [name[7]]}},
                {"from_name": "sharp", "value": {"choices": ["yes"]}},
            ]
            for name in self.FILES
        }
        tasks = [
            {"data": {"image": name}, "annotations": [{"result": result}]} for name, result in results.items()
        ]
        files = {"labels.json": json.dumps(tasks).encode(), **self.FILES}
        with pytest.raises(DatasetError, match="asks several questions"):
            fetch(tmp_path / "a", storage, files)
        labels = fetch(tmp_path / "a", storage, files, columns={"label": "kind"})
        assert set(labels.values()) == {"c", "d"}

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            (b"filename,c,d\nc0.png,1,1\n", "line 2, has several labels: c, d"),
            (b"filename,c,d\nc0.png,0.5,1\n", "gives no label"),
            (b"file,labels\nc0.png,c|d\n", r"line 2, has several labels: 'c\|d'"),
        ],
    )
    def test_several_labels_are_refused_by_line(
        self, tmp_path: Path, storage: Storage, text: bytes, match: str
    ) -> None:
        with pytest.raises(DatasetError, match=match):
            fetch(tmp_path / "a", storage, {"labels.csv": text, **self.FILES})

    def test_words_in_a_column_for_several_labels_are_told(self, tmp_path: Path, storage: Storage) -> None:
        text = b"file,tags\nc0.png,clear primary\nc1.png,clear primary\nd0.png,haze\nd1.png,haze\n"
        fetch(tmp_path / "a", storage, {"labels.csv": text, **self.FILES})
        assert any("multi_label" in each and "'clear primary'" in each for each in statements(storage))

    def test_a_list_that_cannot_be_used_is_told_in_the_error(self, tmp_path: Path, storage: Storage) -> None:
        with pytest.raises(EmptyDataset, match="list not used: train.csv, line 1, gives no label"):
            fetch(tmp_path / "a", storage, {"train.csv": b"file,size\nc0.png,3\n", **self.FILES})


class TestLabelPattern:
    FILES = {f"{name}.{n}.png": b"" for name in ("cat", "dog") for n in range(3)}

    @pytest.mark.parametrize("pattern", [r"^(.+?)\.", r"^(?P<label>[a-z]+)", r"(cat|dog)"])
    def test_finds_the_class_in_a_files_name(self, tmp_path: Path, storage: Storage, pattern: str) -> None:
        labels = fetch(tmp_path / "a", storage, self.FILES, label_pattern=pattern)
        assert labels == {name: name[:3] for name in self.FILES}

    def test_files_that_do_not_match_are_counted(self, tmp_path: Path, storage: Storage) -> None:
        files = {**self.FILES, "README.md": b"x", "bird.1.png": b""}
        assert len(fetch(tmp_path / "a", storage, files, label_pattern=r"^(cat|dog)\.")) == 6
        [statement] = statements(storage)
        assert "2 whose name does not match `label_pattern` (README.md, bird.1.png)" in statement

    def test_parts_of_a_split_are_kept(self, tmp_path: Path, storage: Storage) -> None:
        files = {f"{part}/{name}": b"" for part in ("train", "test") for name in self.FILES}
        fetch(tmp_path / "a", storage, files, label_pattern=r"^(.+?)\.")
        index = FetchIndex.of_last_run(dataset_folder(storage))
        assert sorted(row.given_split or "" for row in index.rows()) == ["test"] * 6 + ["train"] * 6

    @pytest.mark.parametrize(
        ("train", "test"),
        [
            ("training/train", "training/test"),
            ("dev/train", "dev/test"),
            ("a/train_set/b", "a/test_set/b"),
            ("images", "images/test"),
        ],
    )
    def test_the_innermost_part_wins_and_is_told(
        self, tmp_path: Path, storage: Storage, train: str, test: str
    ) -> None:
        files = {f"{folder}/{name}": b"" for folder in (train, test) for name in self.FILES}
        fetch(tmp_path / "a", storage, files, label_pattern=r"^(.+?)\.")
        rows = list(FetchIndex.of_last_run(dataset_folder(storage)).rows())
        assert sum(row.given_split == "test" for row in rows) == 6
        assert all(f"/{test}/" in row.source_url for row in rows if row.given_split == "test")
        [statement] = [each for each in statements(storage) if each.startswith("given_split")]
        assert statement.endswith("are parts of a split, not classes; 6 pictures are the test set")

    def test_is_suggested_where_names_look_like_classes(self, tmp_path: Path, storage: Storage) -> None:
        with pytest.raises(
            EmptyDataset, match=r"look like classes: cat \(3\), dog \(3\).*write `label_pattern"
        ) as e:
            fetch(tmp_path / "a", storage, self.FILES)
        pattern = str(e.value).partition("label_pattern: '")[2].partition("'")[0]
        assert set(fetch(tmp_path / "a", storage, self.FILES, label_pattern=pattern).values()) == {
            "cat",
            "dog",
        }

    @pytest.mark.parametrize(("pattern", "match"), [("(", "no regular expression"), ("cat", "has no group")])
    def test_is_checked(self, pattern: str, match: str) -> None:
        source = {"type": "folder", "uri": "/x", "label_pattern": pattern}
        with pytest.raises(ConfigError, match=match):
            Classifier.from_dict({"name": "toys", "dataset": {"source": source}})
