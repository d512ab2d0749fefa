"""Which folders of a tree are classes, which are parts of a split, and what is left out."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from pipeline.datasets.sources.layout import Layout, lay_out, system_part
from pipeline.errors import EmptyDataset

CATS_AND_DOGS = ("cat/0.jpg", "cat/1.jpg", "dog/0.jpg", "dog/1.jpg")


def tree(*folders: str, below: str = "") -> list[str]:
    return [f"{below}{folder}/{name}" for folder in folders for name in CATS_AND_DOGS]


def labels_of(layout: Layout) -> dict[str, tuple[str, str | None]]:
    return {file.name: (file.label, file.split) for file in layout.files}


class TestClassFolders:
    def test_are_the_folders_of_the_source(self) -> None:
        layout = lay_out(CATS_AND_DOGS, origin="x")
        assert labels_of(layout)["cat/0.jpg"] == ("cat", None)
        assert (layout.parts, layout.statements) == ({}, [])

    @pytest.mark.parametrize("below", ["animals", "a/b/c", "train", "Archive/data.v3/Train"])
    def test_lie_below_common_folders_of_any_depth(self, below: str) -> None:
        layout = lay_out([*tree(below), "README.md"], origin="x")
        assert {file.label for file in layout.files} == {"cat", "dog"}
        assert layout.parts == {}
        assert layout.statements == ["files left out: 1 beside the class folders (README.md)"]

    def test_that_the_user_lists_are_no_common_folders(self) -> None:
        layout = lay_out(["cat/young/0.jpg", "cat/old/1.jpg"], classes=["cat"], origin="x")
        assert {file.label for file in layout.files} == {"cat"}

    def test_hold_their_own_folders(self) -> None:
        layout = lay_out([*CATS_AND_DOGS, "cat/more/deep/2.jpg"], origin="x")
        assert labels_of(layout)["cat/more/deep/2.jpg"] == ("cat", None)


class TestSpellings:
    @pytest.mark.parametrize(("train", "test"), [("Cat", "cat"), ("cat", "CAT")])
    @pytest.mark.parametrize("other", ["dog", "Dog"])
    def test_of_parts_that_differ_in_case_are_one_class(self, train: str, test: str, other: str) -> None:
        files = [*(f"train/{label}/{n}.jpg" for label in (train, "dog") for n in range(3))]
        layout = lay_out([*files, f"test/{test}/7.jpg", f"test/{other}/8.jpg"], origin="x")
        labels = labels_of(layout)
        assert labels["test/" + test + "/7.jpg"] == (train, "test")
        assert {label for label, _ in labels.values()} == {train, "dog"}
        assert layout.statements[0] == (
            f"one_class: the folders {test} and {train} of different parts differ in case only; "
            f"they are the class {train}"
        )

    def test_are_those_of_the_yaml(self) -> None:
        files = ["train/Cat/1.jpg", "train/Dog/1.jpg", "test/cat/2.jpg", "test/dog/2.jpg"]
        assert lay_out(files, classes=["cat", "dog"], origin="x").labels == {"cat", "dog"}
        assert lay_out(files, classes=["cat", "Cat", "Dog"], origin="x").labels == {"cat", "Cat", "Dog"}

    def test_that_one_part_has_both_of_are_two_classes(self) -> None:
        files = ["train/Cat/1.jpg", "train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg", "test/dog/2.jpg"]
        assert lay_out(files, origin="x").labels == {"Cat", "cat", "dog"}


class TestSplit:
    @pytest.mark.parametrize(
        ("train", "test"),
        [("train", "test"), ("Training", "Test"), ("TRAIN", "TEST"), ("training", "testing")],
    )
    @pytest.mark.parametrize("below", ["", "kaggle/", "a/b/"])
    def test_folders_that_share_class_folders_are_its_parts(self, train: str, test: str, below: str) -> None:
        layout = lay_out(tree(train, test, below=below), origin="x")
        labels = labels_of(layout)
        assert labels[f"{below}{train}/cat/0.jpg"] == ("cat", "train")
        assert labels[f"{below}{test}/dog/1.jpg"] == ("dog", "test")
        assert layout.statements == [
            f"given_split: {test} (4), {train} (4) are parts of a split, not classes; "
            "4 pictures are the test set"
        ]

    @pytest.mark.parametrize(
        ("train", "test"),
        [
            ("training_set", "test_set"),
            ("seg_train/seg_train", "seg_test/seg_test"),
            ("Training Data", "Testing Data"),
            ("train-images", "test"),
            ("TrainImages", "TestImages"),
            ("trainset", "testset"),
            ("train_val", "test"),
            ("train2017", "test2017"),
            ("a_train/a_train/a_train", "a_test/a_test"),
            ("train/images", "test/images"),
        ],
    )
    @pytest.mark.parametrize("below", ["", "kaggle/"])
    def test_may_have_parts_of_longer_names_and_doubled_folders(
        self, train: str, test: str, below: str
    ) -> None:
        layout = lay_out(tree(train, test, below=below), origin="x")
        labels = labels_of(layout)
        assert labels[f"{below}{train}/cat/0.jpg"] == ("cat", "train")
        assert labels[f"{below}{test}/dog/1.jpg"] == ("dog", "test")
        assert len(layout.files) == 8
        assert layout.statements == [
            f"given_split: {test} (4), {train} (4) are parts of a split, not classes; "
            "4 pictures are the test set"
        ]

    def test_of_doubled_folders_may_have_test_pictures_without_labels(self) -> None:
        layout = lay_out([*tree("a_train/a_train"), "a_test/a_test/1.jpg", "a_pred/2.jpg"], origin="x")
        assert {(file.label, file.split) for file in layout.files} == {("cat", "train"), ("dog", "train")}
        assert layout.left_out == {"beside the class folders": 2}

    def test_may_lack_a_class_in_one_part(self) -> None:
        names = [*tree("train"), "test/cat/7.jpg", "test/cat/batch/8.jpg"]
        layout = lay_out(names, origin="x")
        assert labels_of(layout)["test/cat/batch/8.jpg"] == ("cat", "test")

    @pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "eval"])
    def test_may_have_a_validation_part(self, name: str) -> None:
        layout = lay_out(tree("train", name, "test"), origin="x")
        assert labels_of(layout)[f"{name}/cat/0.jpg"] == ("cat", "validation")

    def test_without_a_test_part_is_made_anew(self) -> None:
        layout = lay_out(tree("train", "val"), origin="x")
        assert {file.split for file in layout.files} == {"train", "validation"}
        assert {file.label for file in layout.files} == {"cat", "dog"}
        [statement] = layout.statements
        assert "without labelled test pictures; all are split anew" in statement

    def test_whose_test_pictures_have_no_labels_loses_them_by_count(self) -> None:
        layout = lay_out([*tree("train"), "test/1.jpg", "test/2.jpg", "sample_submission.csv"], origin="x")
        assert {file.label for file in layout.files} == {"cat", "dog"}
        assert layout.left_out == {"beside the class folders": 3}
        assert {file.split for file in layout.files} == {"train"}

    def test_beside_other_folders_leaves_them_out_by_count(self) -> None:
        layout = lay_out([*tree("train", "test"), "annotations/a.xml", "annotations/b.xml"], origin="x")
        assert {file.label for file in layout.files} == {"cat", "dog"}
        assert layout.left_out == {"beside the class folders": 2}

    def test_in_name_only_is_refused_until_the_user_says_that_these_are_classes(self) -> None:
        names = ["train/0.jpg", "train/1.jpg", "test/2.jpg"]
        with pytest.raises(EmptyDataset, match=r"share no class folder.*`classes: \[test, train\]`"):
            lay_out(names, origin="x")
        layout = lay_out(names, classes=["train", "test"], origin="x")
        assert {file.label for file in layout.files} == {"train", "test"}

    def test_in_one_name_is_a_class_and_is_told(self) -> None:
        layout = lay_out(["train/0.jpg", "bus/1.jpg"], origin="x")
        assert {file.label for file in layout.files} == {"train", "bus"}
        assert layout.statements[0].startswith("split_like_class: the class train is named like a part")
        assert lay_out(["train/0.jpg", "bus/1.jpg"], classes=["train", "bus"], origin="x").statements == []


class TestUnlabelledParts:
    @pytest.mark.parametrize("folder", ["images", "unknown", "Test_Images", "all-files"])
    def test_are_left_out_and_counted(self, folder: str) -> None:
        names = [*tree("train"), f"test/{folder}/1.jpg", f"val/{folder}/2.jpg"]
        layout = lay_out(names, origin="x")
        assert {(file.label, file.split) for file in layout.files} == {("cat", "train"), ("dog", "train")}
        assert layout.left_out == {"beside the class folders": 2}
        assert layout.statements[0] == (
            "given_split: train (4): of a split without labelled test pictures; all are split anew"
        )

    def test_are_parts_if_the_folder_is_a_class(self) -> None:
        layout = lay_out(["train/all/0.jpg", "train/few/1.jpg", "test/all/2.jpg"], origin="x")
        assert labels_of(layout)["test/all/2.jpg"] == ("all", "test")


class TestFoldersWithoutPictures:
    def test_are_left_out_and_counted(self) -> None:
        names = [
            "food/images/pie/1.jpg",
            "food/images/rib/2",
            "food/meta/train.txt",
            "food/meta/a/labels.json",
        ]
        layout = lay_out(names, origin="x")
        assert labels_of(layout) == {names[0]: ("pie", None), names[1]: ("rib", None)}
        assert layout.statements == ["files left out: 2 beside the class folders (train.txt, labels.json)"]

    def test_are_classes_if_listed(self) -> None:
        layout = lay_out(["pie/1.jpg", "rib/2.txt"], classes=["pie", "rib"], origin="x")
        assert {file.label for file in layout.files} == {"pie", "rib"}

    def test_are_classes_if_there_is_nothing_else(self) -> None:
        assert len(lay_out(["pie/1.txt", "rib/2.txt"], origin="x").files) == 2


class TestSplitInEachClass:
    @pytest.mark.parametrize(
        ("train", "test"), [("train", "test"), ("Training", "Test"), ("train_set/a", "test_set")]
    )
    @pytest.mark.parametrize("below", ["", "pets/"])
    def test_is_kept(self, train: str, test: str, below: str) -> None:
        names = [
            f"{below}{label}/{part}/{number}.jpg"
            for label in ("cat", "dog")
            for part, count in ((train, 4), (test, 2))
            for number in range(count)
        ]
        layout = lay_out(names, origin="x")
        assert Counter((file.label, file.split) for file in layout.files) == {
            ("cat", "train"): 4, ("cat", "test"): 2, ("dog", "train"): 4, ("dog", "test"): 2,
        }  # fmt: skip
        assert layout.statements == [
            "given_split: test (4), train (8) are parts of a split, not classes; 4 pictures are the test set"
        ]

    def test_holds_for_a_class_that_lacks_a_part(self) -> None:
        layout = lay_out(["cat/train/0.jpg", "cat/test/1.jpg", "dog/train/2.jpg", "dog/3.jpg"], origin="x")
        assert [file.split for file in layout.files] == ["train", "test", "train", None]

    def test_needs_two_parts_side_by_side(self) -> None:
        layout = lay_out(["vehicle/train/0.jpg", "exam/test/1.jpg"], origin="x")
        assert [file.split for file in layout.files] == [None, None]
        assert layout.statements == []

    def test_does_not_hide_class_folders_below(self) -> None:
        names = [name for fold in ("fold1", "fold2") for name in tree("train", "test", below=f"{fold}/")]
        assert any(
            "hold the same folders (cat, dog)" in each for each in lay_out(names, origin="x").statements
        )


class TestOneOfSeveralSources:
    def lay_out(self, *names: str) -> Layout:
        return lay_out(names, may_descend=False, origin="x")

    def test_looks_into_a_common_folder_that_holds_several(self) -> None:
        layout = self.lay_out("pets-v2/cat/0.jpg", "pets-v2/dog/1.jpg", "pets-v2/README.md")
        assert [file.label for file in layout.files] == ["cat", "dog"]
        assert layout.statements[0] == (
            "common_folder: pets-v2 was looked into; it holds cat, dog. If it is a class itself, write "
            "`label: pets-v2` in this source"
        )

    def test_looks_into_a_common_folder_of_a_split(self) -> None:
        layout = self.lay_out(*tree("train", "test", below="a/b/"))
        assert {(file.label, file.split) for file in layout.files} == {
            (label, part) for label in ("cat", "dog") for part in ("train", "test")
        }

    @pytest.mark.parametrize("names", [("cat/0.jpg",), ("cat/more/0.jpg",), ("cat/more/0.jpg", "cat/1.jpg")])
    def test_takes_a_single_folder_as_its_class(self, names: tuple[str, ...]) -> None:
        layout = self.lay_out(*names)
        assert {file.label for file in layout.files} == {"cat"}
        assert layout.statements == []

    def test_keeps_the_split_of_a_single_class(self) -> None:
        layout = self.lay_out("cat/train/0.jpg", "cat/test/1.jpg")
        assert [(file.label, file.split) for file in layout.files] == [("cat", "train"), ("cat", "test")]


class TestOtherLanguagesAndSpellings:
    @pytest.mark.parametrize(
        ("train", "test"),
        [
            ("entrenamiento", "prueba"),
            ("treino", "teste"),
            ("Trainingsdaten", "Testdaten"),
            ("Trainingsset", "Testset"),
            (unicodedata.normalize("NFD", "entraînement"), "test"),
            ("обучение", "тест"),
            ("训练集", "测试集"),
            ("train", "holdout"),
        ],
    )
    def test_words_of_other_languages_name_parts(self, train: str, test: str) -> None:
        labels = labels_of(lay_out(tree(train, test), origin="x"))
        assert labels[f"{train}/cat/0.jpg"] == ("cat", "train")
        assert labels[f"{test}/dog/1.jpg"] == ("dog", "test")

    def test_a_word_alone_names_no_part(self) -> None:
        layout = lay_out(["prueba/0.jpg", "final/1.jpg"], origin="x")
        assert {file.label for file in layout.files} == {"prueba", "final"}

    @pytest.mark.parametrize(
        ("train", "test", "label"),
        [
            (unicodedata.normalize("NFD", "Café"), "Café", "Café"),
            ("Golden Retriever", "golden_retriever", "Golden Retriever"),
            ("golden-retriever", "Golden Retriever", "golden-retriever"),
            ("cats", "cat", "cats"),
        ],
    )
    def test_one_class_in_two_spellings(self, train: str, test: str, label: str) -> None:
        names = [f"train/{train}/{n}.jpg" for n in range(3)] + [f"test/{test}/7.jpg", "train/dog/8.jpg"]
        layout = lay_out([*names, "test/dog/9.jpg"], origin="x")
        assert {file.label for file in layout.files} == {label, "dog"}
        told = [each for each in layout.statements if each.startswith("one_class")]
        assert len(told) == (unicodedata.normalize("NFC", train) != test)

    def test_signs_tell_classes_apart(self) -> None:
        names = [
            f"{part}/{label}/{n}.jpg" for part in ("train", "test") for label in ("A+", "A-") for n in "01"
        ]
        assert {file.label for file in lay_out(names, origin="x").files} == {"A+", "A-"}


class TestFoldersThatAreNoClasses:
    @pytest.mark.parametrize(
        "names",
        [
            ["images/0.png", "masks/0.png"],
            ["train/images/0.png", "train/masks/0.png", "test/images/1.png", "test/masks/1.png"],
            ["originals/0.png", "SegmentationLabels/0.png", "depth/0.png"],
        ],
    )
    def test_pictures_and_their_masks_are_refused(self, names: list[str]) -> None:
        with pytest.raises(EmptyDataset, match=r"no classes.*labels\.csv.*`classes: \["):
            lay_out(names, origin="x")

    def test_masks_are_classes_where_the_user_says_so(self) -> None:
        layout = lay_out(["images/0.png", "masks/0.png"], classes=["images", "masks"], origin="x")
        assert {file.label for file in layout.files} == {"images", "masks"}
        assert len(lay_out(["mask/0.png", "no mask/1.png"], origin="x").labels) == 2

    @pytest.mark.parametrize(
        "tops", [("v1", "v2"), ("original", "augmented"), ("raw_images", "resized_images")]
    )
    def test_editions_of_a_collection_are_refused(self, tops: tuple[str, ...]) -> None:
        with pytest.raises(EmptyDataset, match=r"editions of one collection.*`dataset\.sources`"):
            lay_out(tree(*tops), origin="x")
        assert {file.label for file in lay_out(tree(*tops), classes=tops, origin="x").files} == {*tops}

    @pytest.mark.parametrize("top", ["animals", "dog2"])
    def test_a_copy_of_all_class_folders_among_them_is_left_out(self, top: str) -> None:
        layout = lay_out([*CATS_AND_DOGS, *tree(top)], origin="x")
        assert {file.label for file in layout.files} == {"cat", "dog"}
        assert layout.statements == [f"files left out: 4 in {top}, a copy of the class folders"]

    def test_other_files_in_the_same_folders_are_no_copy(self) -> None:
        with pytest.raises(EmptyDataset, match=r"animals holds folders that lie beside it.*other files"):
            lay_out([*CATS_AND_DOGS, *tree("animals"), "animals/cat/7.jpg"], origin="x")


class TestClassesThatHoldTheSameFolders:
    @pytest.mark.parametrize(
        "tops", [("train", "extra"), ("steam_train", "bullet_train"), ("train_val_test", "test")]
    )
    def test_are_refused_if_one_is_named_like_a_part(self, tops: tuple[str, ...]) -> None:
        with pytest.raises(EmptyDataset, match=r"hold the same folders \(cat, dog\).*`classes`"):
            lay_out(tree(*tops), origin="x")
        layout = lay_out(tree(*tops), classes=list(tops), origin="x")
        assert {file.label for file in layout.files} == set(tops)
        assert layout.statements == []

    def test_are_told_otherwise(self) -> None:
        layout = lay_out(tree("north", "south"), origin="x")
        assert {file.label for file in layout.files} == {"north", "south"}
        [statement] = layout.statements
        assert statement.startswith(
            "shared_folders: the classes north, south hold the same folders (cat, dog)"
        )

    def test_are_not_told_of_one_common_folder(self) -> None:
        assert lay_out(["cat/more/0.jpg", "dog/more/1.jpg"], origin="x").statements == []


@pytest.mark.parametrize("names", [("steam_train", "test_tube"), ("bullet_train", "bus")])
def test_a_word_in_the_name_of_a_class_makes_no_split(names: tuple[str, str]) -> None:
    layout = lay_out([f"{name}/{number}.jpg" for name in names for number in range(2)], origin="x")
    assert {file.label for file in layout.files} == set(names)
    assert layout.statements == []


class TestSystemFiles:
    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("__MACOSX/cat/._0.jpg", "__MACOSX"),
            ("cat/.DS_Store", "hidden"),
            ("cat/._0.jpg", "hidden"),
            ("cat/Thumbs.db", "Thumbs.db"),
            ("cat/desktop.ini", "desktop.ini"),
            ("cat/@eaDir/0.jpg/x", "@eaDir"),
            ("$RECYCLE.BIN/x", "$RECYCLE.BIN"),
            ("lost+found/x", "lost+found"),
            ("cat/0.jpg", None),
        ],
    )
    def test_are_told_by_their_names(self, name: str, part: str | None) -> None:
        assert system_part(name) == part

    def test_are_left_out_and_counted(self) -> None:
        junk = [f"__MACOSX/{name}" for name in CATS_AND_DOGS]
        layout = lay_out([*CATS_AND_DOGS, *junk, "cat/Thumbs.db"], origin="x")
        assert len(layout.files) == 4
        assert layout.statements == ["files left out: 1 Thumbs.db, 4 __MACOSX"]


NAMES = st.sampled_from(["train", "test", "val", "cat", "dog", "Thumbs.db", ".git", "__MACOSX", "a"])
PATHS = st.lists(NAMES, max_size=4).flatmap(
    lambda folders: st.integers(0, 9).map(lambda number: "/".join([*folders, f"{number}.jpg"]))
)


@given(st.lists(PATHS, unique=True, max_size=30), st.sampled_from([None, ["cat"], ["train", "test"]]))
def test_every_file_has_a_class_or_is_counted(names: list[str], classes: list[str] | None) -> None:
    try:
        layout = lay_out(names, classes=classes, origin="x")
    except EmptyDataset:
        return
    assert len(layout.files) + layout.left_out.total() == len(names)
    assert all(file.label in file.name.split("/") for file in layout.files)
