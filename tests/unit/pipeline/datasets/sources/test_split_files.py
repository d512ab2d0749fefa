"""Splits that text files tell: which files count, what they name, and what becomes of the test part."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.artifacts.fetch_index import FetchIndex
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources import row_files
from pipeline.datasets.sources.layout import LaidOutFile
from pipeline.datasets.sources.split_file_rows import find_split_files
from pipeline.datasets.sources.split_files import GivenParts, read_split_files
from pipeline.errors import EmptyDataset
from tests.fakes.pictures import classifier_of, noise, png, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of

PICTURES = [f"images/{label}/{number}.jpg" for label in ("cat", "dog") for number in range(10, 14)]
TESTS = {"images/cat/10.jpg", "images/dog/10.jpg"}


def read(files: dict[str, str], **given: str) -> GivenParts:
    laid_out = [LaidOutFile(name=name, label="x", split=given.get(name)) for name in PICTURES]
    return read_split_files([*PICTURES, *files], lambda name: files[name].encode(), laid_out, "x")


def lines(pictures: list[str], *, tests: bool, form: str = "{path}") -> str:
    """The rows of a `train.txt` or a `test.txt`, in one of the forms that are in use."""
    return "\n".join(
        form.format(path=name, short=name.removeprefix("images/"), stem=name[7:-4])
        for name in pictures
        if (name in TESTS) == tests
    )


def named_as_test(given: GivenParts) -> set[str]:
    return {name for name, split in given.splits.items() if split == "test"}


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["train.txt", "ImageSets/Main/trainval.txt", "meta/TEST.TXT", "TestImages.txt", "test_list.txt"],
    )
    def test_of_parts_count(self, name: str) -> None:
        assert find_split_files([name]) == [name]

    @pytest.mark.parametrize(
        "name",
        ["cat_train.txt", "README.txt", "test.md", "classes.txt", "images.txt", "__MACOSX/._test.txt",
         "train_test.txt", "contest.txt"],
    )  # fmt: skip
    def test_of_anything_else_do_not(self, name: str) -> None:
        assert find_split_files([name]) == []


class TestRows:
    @pytest.mark.parametrize(
        "form",
        ["{path}", "{short}", "{stem}", "./{path}", "{stem} 3", "{path}\t7", "{short},0", "{stem} 1 2 1",
         "/home/me/data/{short}", "{short} cat"],
    )  # fmt: skip
    def test_name_pictures_in_any_of_the_usual_forms(self, form: str) -> None:
        files = {
            f"meta/{part}.txt": lines(PICTURES, tests=part == "test", form=form) for part in ("train", "test")
        }
        given = read(files)
        assert (named_as_test(given), len(given.splits)) == (TESTS, len(PICTURES))
        assert given.statements == ["split_files: meta/test.txt, meta/train.txt tell the split"]

    def test_of_other_classes_fit_no_picture_of_the_same_number(self) -> None:
        files = {
            "train.txt": lines(PICTURES, tests=False, form="{stem}"),
            "test.txt": "cat/10\ndog/10\nowl/11\n",
        }
        given = read(files)
        assert named_as_test(given) == TESTS
        assert given.statements[1:] == ["split_files: 1 of 3 names of test.txt are not there: owl/11"]

    def test_of_the_folder_that_was_downloaded_in_part_are_used(self) -> None:
        owls = "\n".join(f"owl/{number}" for number in range(90))
        files = {
            part: lines(PICTURES, tests=part == "test.txt", form="{stem}")
            for part in ("train.txt", "test.txt")
        }
        assert named_as_test(read({name: f"{text}\n{owls}" for name, text in files.items()})) == TESTS

    def test_of_a_class_are_no_split(self) -> None:
        files = {"train_train.txt": "images/cat/10.jpg -1\nimages/dog/10.jpg  1\n"}
        assert read(files) == GivenParts()

    def test_of_numbered_pictures_are_looked_up(self) -> None:
        files = {
            "images.txt": "\n".join(f"{n} {name[7:]}" for n, name in enumerate(PICTURES, 1)),
            "train_test_split.txt": "\n".join(
                f"{n} {int(name not in TESTS)}" for n, name in enumerate(PICTURES, 1)
            ),
        }
        assert named_as_test(read(files)) == TESTS
        del files["images.txt"]
        assert read(files).statements == [
            "split files not used: train_test_split.txt has no images.txt beside it"
        ]


class TestParts:
    def test_that_validate_win_over_files_of_both(self) -> None:
        rest = [name for name in PICTURES if name not in TESTS]
        files = {
            "ImageSets/Main/trainval.txt": "\n".join(rest),
            "ImageSets/Main/train.txt": "\n".join(rest[2:]),
            "ImageSets/Main/val.txt": "\n".join(rest[:2]),
            "ImageSets/Main/test.txt": "\n".join(TESTS),
            "ImageSets/Layout/train.txt": "\n".join(TESTS),
        }
        given = read(files)
        assert Counter(given.splits.values()) == {"train": 4, "validation": 2, "test": 2}
        assert given.statements[0] == (
            "split files not used: ImageSets/Layout/train.txt: ImageSets/Main is of classes"
        )

    def test_that_share_a_picture_are_refused_by_name(self) -> None:
        files = {"train.txt": "\n".join(PICTURES), "test.txt": "\n".join(sorted(TESTS))}
        with pytest.raises(
            EmptyDataset, match=r"train\.txt, line 1, puts images/cat/10\.jpg .*, test\.txt into"
        ):
            read(files)

    def test_of_several_splits_are_not_used(self) -> None:
        files = {f"{part}{n}.txt": "\n".join(PICTURES[n::2]) for n in (0, 1) for part in ("train", "test")}
        given = read(files)
        assert (given.splits, len(given.statements)) == ({}, 1)
        assert "are several splits of the same pictures" in given.statements[0]

    @pytest.mark.parametrize("text", ["a.jpg\nb.jpg\n", "a\nb\nimages/cat/10.jpg\n"])
    def test_of_few_pictures_are_stated(self, text: str) -> None:
        given = read({"test.txt": text})
        assert given.splits == {}
        [statement] = given.statements
        assert statement.startswith(
            f"split files not used: test.txt names {text.count(chr(10))} pictures, of which"
        )

    def test_that_folders_contradict_are_stated(self) -> None:
        given = read({"test.txt": "\n".join(TESTS)}, **{"images/cat/11.jpg": "test"})
        assert given.splits == {}
        assert "folders or lists tell the test set" in given.statements[0]

    def test_without_training_pictures_are_no_split(self) -> None:
        given = read({"test.txt": "\n".join(PICTURES)})
        assert given.splits == {}
        assert "put every picture into the test part" in given.statements[0]

    def test_without_test_pictures_are_split_anew(self) -> None:
        given = read({"train.txt": "\n".join(PICTURES[2:]), "val.txt": "\n".join(PICTURES[:2])})
        assert Counter(given.splits.values()) == {"train": 6, "validation": 2}
        assert "name no test pictures: all are split anew" in given.statements[0]


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("more", [{}, {"label_pattern": "^([a-z]+)_"}])
def test_a_source_keeps_and_states_the_test_set_of_text_files(
    tmp_path: Path, kind: str, more: dict[str, str]
) -> None:
    storage, root = storage_in(tmp_path), tmp_path / "data"
    names = [f"images/{label}/{label}_{n}.png" for label in ("cat", "dog") for n in range(4)]
    files = {name: png(noise(place)) for place, name in enumerate(names)}
    files["meta/test.txt"] = b"cat/cat_0\ndog/dog_0\n"
    files["meta/train.txt"] = "\n".join(name[7:-4] for name in names if "_0" not in name).encode()
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    uri = root if kind == "folder" else tmp_path / "a.zip"
    for _ in range(2):  # an unchanged archive is not opened again
        result = fetch_pictures(workspace_of(storage), classifier_of({"type": kind, "uri": str(uri), **more}))
        rows = index_rows(storage, result.index)
        assert Counter((row.label, row.given_split) for row in rows) == {
            ("cat", "train"): 3, ("cat", "test"): 1, ("dog", "train"): 3, ("dog", "test"): 1
        }  # fmt: skip
        assert sorted(FetchIndex.of_last_run(dataset_folder(storage)).head().statements) == [
            "given_split: test (2), train (6) are parts of a split, not classes; 2 pictures are the test set",
            "split_files: meta/test.txt, meta/train.txt tell the split",
        ]


def test_files_are_indexed_once_for_all_split_files(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def count(paths: Mapping[str, Sequence[str]]) -> row_files.Index:
        counts.append(len(paths))
        return index(paths)

    index = row_files._index
    monkeypatch.setattr(row_files, "_index", count)
    names = [f"images/{label}/{n}.jpg" for label in ("cat", "dog") for n in range(4)]
    short = [name.removeprefix("images/").removesuffix(".jpg") for name in names]
    files = {"meta/train.txt": "\n".join(short[::2]), "meta/test.txt": "\n".join(short[1::2])}
    pictures = [LaidOutFile(name=name, label=name.split("/")[1]) for name in names]
    parts = read_split_files(files, lambda name: files[name].encode(), pictures, "x")
    assert len(parts.splits) == 8
    assert counts == [8, 8]  # with and without extension
