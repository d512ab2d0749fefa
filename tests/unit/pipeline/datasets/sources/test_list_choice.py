"""Lists beside folders: which of the two tells the classes, and what becomes of a test set that they tell."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.artifacts.fetch_index import FetchIndex
from pipeline.config.sources import ListColumns
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.label_list import Labels, ListOptions
from pipeline.datasets.sources.list_choice import choose_labels
from pipeline.errors import EmptyDataset, SourceNotFound
from tests.fakes.pictures import classifier_of, noise, png, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of

CAT, DOG = "cat", "dog"


@dataclass(slots=True, kw_only=True)
class Tree:
    """Files of a source: pictures by path, and lists with what is in them."""

    pictures: list[str] = field(default_factory=list)
    lists: dict[str, str] = field(default_factory=dict)

    def choose(
        self, classes: list[str] | None = None, columns: ListColumns | None = None
    ) -> tuple[Labels | None, list[str]]:
        unused: list[str] = []
        labels = choose_labels(
            [*self.pictures, *self.lists],
            lambda name: self.lists[name].encode(),
            classes=classes,
            options=ListOptions(columns=columns),
            origin="x",
            unused=unused,
        )
        return labels, unused

    def labels(self, **options: object) -> Labels:
        labels, _ = self.choose(**options)  # type: ignore[arg-type]
        assert labels is not None
        return labels


def table(rows: dict[str, str], header: str = "file,label") -> str:
    return "\n".join([header, *(f"{file},{label}" for file, label in rows.items())])


def pictures(*folders: str, count: int = 4) -> list[str]:
    return [
        f"{folder}/{place}_{number}.png" for place, folder in enumerate(folders) for number in range(count)
    ]


def animal(place: int) -> str:
    return (CAT, DOG)[place % 2]


def animals(paths: list[str], *, strip: int = 0) -> dict[str, str]:
    """Labels by path, without its first folders."""
    return {"/".join(path.split("/")[strip:]): animal(place) for place, path in enumerate(paths)}


class TestListBesideFolders:
    @pytest.mark.parametrize(
        ("name", "folders", "listed", "strip"),
        [
            ("train.csv", ("train_images", "test_images"), ("train_images",), 1),
            ("metadata.csv", ("part1", "part2"), ("part1", "part2"), 1),
            ("metadata.csv", ("images", "masks"), ("images",), 0),
            ("metadata.tsv", ("a/left", "a/right"), ("a/left", "a/right"), 0),
            ("HAM10000_metadata.csv", ("HAM_images_part_1", "HAM_images_part_2"),
             ("HAM_images_part_1", "HAM_images_part_2"), 1),
            ("Training_set.csv", ("train", "test"), ("train",), 1),
            ("labels.csv", ("one", "two"), ("one", "two"), 0),
        ],
    )  # fmt: skip
    def test_tells_the_classes_if_its_files_are_there(
        self, name: str, folders: tuple[str, ...], listed: tuple[str, ...], strip: int
    ) -> None:
        files = pictures(*folders)
        named = [file for file in files if file.rpartition("/")[0] in listed]
        text = table(animals(named, strip=strip))
        if name.endswith("tsv"):
            text = text.replace(",", "\t")
        assert Tree(pictures=files, lists={name: text}).labels().labels == animals(named)

    def test_says_that_folders_are_no_classes(self) -> None:
        files = pictures("part1", "part2")
        labels = Tree(pictures=files, lists={"metadata.csv": table(animals(files))}).labels()
        assert labels.statements == [
            "list_and_folders: the list tells the classes (cat, dog), not the folders (part1, part2)"
        ]

    def test_says_where_the_two_disagree(self) -> None:
        files = pictures(CAT, DOG)
        rows = {file: file[:3] for file in files} | {"cat/0_1.png": DOG}
        for name in ("labels.csv", "metadata.csv"):
            labels = Tree(pictures=files, lists={name: table(rows)}).labels()
            assert labels.labels == rows
            assert labels.statements == [
                "list_and_folders: 1 of 8 pictures lie in the folder of another class than the list gives "
                "them, such as cat/0_1.png (dog in the list); the list was followed"
            ]

    def test_leaves_the_classes_to_folders_that_tell_the_same_and_more(self) -> None:
        files = pictures(CAT, DOG)
        rows = {file: file[:3].title() for file in files[1:]}
        assert Tree(pictures=files, lists={"train.csv": table(rows)}).choose() == (None, [])

    def test_is_followed_for_a_test_part_that_folders_do_not_tell(self) -> None:
        files = pictures(CAT, DOG)
        rows = {file: f"{file[:3]},{'test' if '_0' in file else 'train'}" for file in files}
        text = table(rows, "file,label,split")
        labels = Tree(pictures=files, lists={"metadata.csv": text}).labels()
        assert [file for file, split in labels.splits.items() if split == "test"] == [
            "cat/0_0.png",
            "dog/1_0.png",
        ]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("file_name,text\ncat/0_0.png,A cat", "gives no label"),
            (
                table({"cat/0_0.png": DOG, "dog/1_0.png": CAT}),
                "it labels 2 of the 8 pictures in their folders",
            ),
            (table({"other.png": DOG}), "no name fits"),
            (table(dict.fromkeys(pictures(CAT, DOG), "animal")), "gives all its pictures the label animal"),
        ],
    )
    def test_that_does_not_tell_the_classes_is_stated(self, text: str, reason: str) -> None:
        labels, unused = Tree(pictures=pictures(CAT, DOG), lists={"metadata.csv": text}).choose()
        assert labels is None
        assert len(unused) == 1
        assert unused[0].startswith("list not used: ")
        assert reason in unused[0]

    def test_is_not_asked_for_classes_that_only_folders_have(self) -> None:
        files = pictures("part1", "part2")
        tree = Tree(pictures=files, lists={"metadata.csv": table(animals(files))})
        labels, unused = tree.choose(classes=["part1", "part2"])
        assert labels is None
        assert unused == ["list not used: it has no part1, part2, which `classes` lists"]

    def test_of_a_few_pictures_in_other_words_is_unclear(self) -> None:
        tree = Tree(pictures=pictures("north", "south", count=9), lists={"train.csv": table(
            animals(["north/0_1.png", "north/0_2.png"]))})  # fmt: skip
        with pytest.raises(EmptyDataset, match=r"labels 2 of the 9 .*classes: \[north, south\]"):
            tree.choose()

    @pytest.mark.parametrize("row", ["part2/1_0.png,cat,x,y", "part2/1_0.png,cat,middle"])
    def test_that_is_damaged_is_an_error(self, row: str) -> None:
        text = f"file,label,split\npart1/0_0.png,cat,\n{row}\n"
        with pytest.raises(SourceNotFound, match="line 3"):
            Tree(pictures=pictures("part1", "part2"), lists={"metadata.csv": text}).choose()

    def test_is_meant_by_its_columns(self) -> None:
        files = pictures(CAT, DOG)
        lists = {"notes_metadata.csv": table(animals(files), "photo,dx"), "train.csv": "id,size\n1,2\n"}
        columns = ListColumns(file="photo", label="dx")
        labels = Tree(pictures=files, lists=lists).labels(columns=columns)
        assert labels.labels == animals(files)
        assert any("train.csv" in each for each in labels.statements)

    def test_with_none_of_the_columns_is_an_error(self) -> None:
        with pytest.raises(SourceNotFound, match="no column 'photo'"):
            Tree(pictures=pictures(CAT, DOG), lists={"train.csv": "id,label\n1,a\n"}).choose(
                columns=ListColumns(file="photo", label="label")
            )

    def test_of_numbers_for_the_folders_leaves_them_their_names(self) -> None:
        files = pictures(CAT, DOG)
        lists = {"metadata.csv": table({file: str(int(file[:3] == DOG)) for file in files})}
        assert Tree(pictures=files, lists=lists).choose() == (None, [])

    @pytest.mark.parametrize("folders", [("part1", "part2"), ("0", "1")])
    def test_of_numbers_wins_over_folders_that_say_no_more(self, folders: tuple[str, str]) -> None:
        files = pictures(*folders)
        rows = {file: str(7 + (file.split("/")[0] == folders[0])) for file in files}
        assert Tree(pictures=files, lists={"metadata.csv": table(rows)}).labels().labels == rows

    def test_that_is_unclear_is_an_error_whatever_the_folders_are(self) -> None:
        answers = [{"from_name": name, "value": {"choices": ["yes"]}} for name in ("animal", "sharp")]
        task = {"data": {"image": "0_0.png"}, "annotations": [{"result": answers}]}
        with pytest.raises(SourceNotFound, match="asks several questions"):
            Tree(pictures=pictures("one", "two"), lists={"result.json": json.dumps([task])}).choose()


class TestNamesOfOtherSystems:
    @pytest.mark.parametrize(
        ("file", "listed"),
        [
            ("IMG_1.JPG", "img_1.jpg"),
            ("images/IMG_1.JPG", "Images/img_1.jpg"),
            ("007.png", "7"),
            ("7.png", "7.0"),
            ("a b.png", "a%20b.png"),
            ("shot.jpg", "shot.png"),
            ("v1.5.png", "V1.5"),
        ],
    )
    def test_are_matched_and_stated(self, file: str, listed: str) -> None:
        lists = {"labels.csv": table({listed: CAT, "other.png": DOG})}
        labels = Tree(pictures=[file, "other.png"], lists=lists).labels()
        assert labels.labels == {file: CAT, "other.png": DOG}
        assert labels.statements == [
            "labels.csv: 1 of 2 rows were matched but for case, extension, zeros or escapes: "
            f"{listed} as {file}"
        ]

    @pytest.mark.parametrize(
        ("files", "listed"),
        [
            (["01.png", "001.png"], "1"),
            (["A.png", "a.png"], "a.PNG"),
            (["v1.5.png"], "v1.png"),
            (["10.png"], "1"),
        ],
    )
    def test_are_not_matched_where_they_fit_several_or_none(self, files: list[str], listed: str) -> None:
        lists = {"labels.csv": table({listed: CAT, "other.png": DOG})}
        assert Tree(pictures=[*files, "other.png"], lists=lists).labels().labels == {"other.png": DOG}

    def test_do_not_win_over_the_same_name(self) -> None:
        lists = {"labels.csv": table({"A.png": CAT, "a.png": DOG})}
        labels = Tree(pictures=["A.png", "a.png"], lists=lists).labels()
        assert labels.labels == {"A.png": CAT, "a.png": DOG}


def test_an_annotation_names_the_picture_and_not_its_mask() -> None:
    text = "<annotation><filename>{}.jpg</filename><object><name>{}</name></object></annotation>"
    tree = Tree(
        pictures=["JPEGImages/a.jpg", "SegmentationClass/a.png", "JPEGImages/b.jpg"],
        lists={
            f"Annotations/{stem}.xml": text.format(stem, label) for stem, label in (("a", CAT), ("b", DOG))
        },
    )
    assert tree.labels().labels == {"JPEGImages/a.jpg": CAT, "JPEGImages/b.jpg": DOG}


VOC = "<annotation><object><name>{}</name></object></annotation>"
TRAIN, TEST = pictures("train"), pictures("test")


def coco(paths: list[str]) -> str:
    return json.dumps({
        "categories": [{"id": 0, "name": CAT}, {"id": 1, "name": DOG}],
        "images": [{"id": n, "file_name": Path(path).name} for n, path in enumerate(paths)],
        "annotations": [{"image_id": n, "category_id": n % 2} for n in range(len(paths))],
    })  # fmt: skip


def voc(paths: list[str], folder: str) -> dict[str, str]:
    return {f"{folder}/{Path(path).stem}.xml": VOC.format(animal(place)) for place, path in enumerate(paths)}


def lists_per_part(pattern: str, header: str = "file,label") -> Tree:
    names = {part: pictures(part) for part in ("train", "test")}
    return Tree(
        pictures=[*names["train"], *names["test"]],
        lists={pattern.format(part): table(animals(files, strip=1), header) for part, files in names.items()},
    )


def part_trees() -> dict[str, Tree]:
    deep_train, deep_test = pictures("train/images"), pictures("valid/images", "test/images")
    by_class = [
        f"{label}s/{part}/{n}.png" for label in (CAT, DOG) for part in ("train", "test") for n in range(2)
    ]
    return {
        "paths of one list": Tree(
            pictures=[*TRAIN, *TEST], lists={"metadata.csv": table(animals(TRAIN) | animals(TEST))}
        ),
        "paths below a folder": Tree(
            pictures=[f"data/{name}" for name in [*TRAIN, *TEST]],
            lists={"labels.csv": table(animals([f"data/{name}" for name in [*TRAIN, *TEST]]))},
        ),
        "paths with backslashes": Tree(
            pictures=[*TRAIN, *TEST],
            lists={
                "labels.csv": table(
                    {
                        name.replace("/", "\\"): label
                        for name, label in (animals(TRAIN) | animals(TEST)).items()
                    }
                )
            },
        ),
        "longer names of parts": Tree(
            pictures=pictures("Train_Images", "Test_Images"),
            lists={"metadata.csv": table(animals(pictures("Train_Images", "Test_Images")))},
        ),
        "a test folder beside others": Tree(
            pictures=pictures("images", "images/test"),
            lists={"labels.csv": table(animals(pictures("images", "images/test")))},
        ),
        "names alone": Tree(
            pictures=pictures("train", "test"),
            lists={"labels.csv": table(animals(pictures("train", "test"), strip=1))},
        ),
        "a list in a folder of each part": lists_per_part("{}/labels/labels.csv"),
        "a list for each part": lists_per_part("{}.csv"),
        "labels of each part": lists_per_part("annotations/{}_labels.csv"),
        "names that both parts have": Tree(
            pictures=["train/1.png", "train/2.png", "test/1.png", "test/2.png"],
            lists={
                "annotations/instances_train.json": coco(["1.png", "2.png"]),
                "annotations/instances_test.json": coco(["1.png", "2.png"]),
            },
        ),
        "names that both parts have, by column": Tree(
            pictures=["train/1.png", "train/2.png", "test/1.png", "test/2.png"],
            lists={
                "labels.csv": "file,label,split\n1.png,cat,train\n2.png,dog,train\n"
                "1.png,cat,test\n2.png,dog,test\n"
            },
        ),
        "Pascal VOC": Tree(
            pictures=[*deep_train, *deep_test],
            lists=voc(deep_train, "train/annotations")
            | voc(deep_test[:4], "valid/annotations")
            | voc(deep_test[4:], "test/annotations"),
        ),
        "Pascal VOC, names that both parts have": Tree(
            pictures=["train/images/1.png", "train/images/2.png", "test/images/1.png", "test/images/2.png"],
            lists=voc(["1.png", "2.png"], "train/annotations") | voc(["1.png", "2.png"], "test/annotations"),
        ),
        "Pascal VOC beside": Tree(pictures=[*TRAIN, *TEST], lists=voc(TRAIN, "train") | voc(TEST, "test")),
        "inside the classes": Tree(
            pictures=by_class, lists={"labels.csv": table({name: name[:3] for name in by_class})}
        ),
    }


TREES = part_trees()


class TestTestSet:
    @pytest.mark.parametrize("title", TREES)
    @pytest.mark.parametrize("around", ["", "export-3/"])
    def test_is_that_of_the_folders(self, title: str, around: str) -> None:
        tree = TREES[title]
        labels = Tree(
            pictures=[around + name for name in tree.pictures],
            lists={around + name: text for name, text in tree.lists.items()},
        ).labels()
        assert set(labels.labels) == {around + name for name in tree.pictures}
        assert Counter(labels.labels.values()) == {CAT: len(tree.pictures) / 2, DOG: len(tree.pictures) / 2}
        tests = {name for name, split in labels.splits.items() if split == "test"}
        assert tests == {around + name for name in tree.pictures if "test" in name.lower()}

    def test_is_not_all_there_is(self) -> None:
        tree = Tree(pictures=TEST, lists={"test.csv": table(animals(TEST))})
        assert tree.labels().splits == {}

    def test_is_that_of_a_column_where_there_is_one(self) -> None:
        rows = {name: f"{animal(n)},{'test' if n < 2 else ''}" for n, name in enumerate([*TRAIN, *TEST])}
        tree = Tree(pictures=[*TRAIN, *TEST], lists={"labels.csv": table(rows, "file,label,split")})
        assert tree.labels().splits == dict.fromkeys(TRAIN[:2], "test")

    def test_is_not_named_by_a_list_of_another_part(self) -> None:
        tree = Tree(
            pictures=["train/1.png", "train/2.png", "test/3.png", "test/4.png"],
            lists={"train.csv": "id,label\n1,cat\n2,dog\n3,cat\n", "test.csv": "id\n3\n4\n"},
        )
        labels = tree.labels()
        assert labels.labels == {"train/1.png": CAT, "train/2.png": DOG}
        assert any("1 of 3 rows name a file that is not there" in each for each in labels.statements)

    def test_whose_pictures_are_missing_is_stated(self) -> None:
        lists = {"train.csv": table(animals(TRAIN)), "test.csv": table(animals(TEST))}
        labels = Tree(pictures=TRAIN, lists=lists).labels()
        assert labels.labels == animals(TRAIN)
        assert any("test.csv lists test/0_0.png" in each for each in labels.statements)


@pytest.mark.parametrize("kind", ["folder", "archive", "url_list"])
def test_a_source_keeps_and_states_the_test_set_of_a_list(tmp_path: Path, kind: str) -> None:
    storage, root = storage_in(tmp_path), tmp_path / "data"
    files = {name: png(noise(place)) for place, name in enumerate([*TRAIN, *TEST])}
    files["labels.csv"] = table(animals(TRAIN) | animals(TEST)).encode()
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    uri = {"folder": root, "archive": root / "a.zip", "url_list": root / "labels.csv"}[kind]
    if kind == "folder":
        (root / "a.zip").unlink()
    result = fetch_pictures(workspace_of(storage), classifier_of({"type": kind, "uri": str(uri)}))
    rows = index_rows(storage, result.index)
    assert Counter((row.label, row.given_split) for row in rows) == {
        (label, part): 2 for label in (CAT, DOG) for part in ("train", "test")
    }
    assert list(FetchIndex.of_last_run(dataset_folder(storage)).head().statements) == [
        "given_split: test (4), train (4) are parts of a split, not classes; 4 pictures are the test set"
    ]


def test_addresses_tell_parts_only_where_these_lie_side_by_side(tmp_path: Path) -> None:
    storage = storage_in(tmp_path)
    for name, folders in (("a", ("train", "test")), ("b", ("images", "test"))):
        rows = [f"http://127.0.0.1:9/{folder}/{n}.png,{animal(n)}" for folder in folders for n in range(2)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["url,label", *rows]))
        source = {"type": "url_list", "uri": str(tmp_path / f"{name}.csv")}
        result = fetch_pictures(workspace_of(storage), classifier_of(source))
        parts = [row.given_split for row in index_rows(storage, result.index)]
        assert parts == (["train"] * 2 + ["test"] * 2 if name == "a" else [None] * 4)
