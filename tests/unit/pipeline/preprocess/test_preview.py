"""A look at sources before a run: counts of all pictures, examples read, problems told at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.sources.guess import guess_section
from pipeline.errors import ConfigError
from pipeline.preprocess.preview import DatasetPreview, preview_dataset
from pipeline.storage import Storage

STORAGE = Storage({})


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def fill(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        for number in range(count):
            draw(root / label / f"{number:03}.png", number)
    return root


def look(source: Path | str, **options: object) -> DatasetPreview:
    section = guess_section(STORAGE, str(source))
    classifier = Classifier.from_dict({"name": "toys", "dataset": {"source": section}})
    return preview_dataset(Workspace(STORAGE, "gs://graft"), classifier, FetchPolicy(), **options)  # type: ignore[arg-type]


def test_every_picture_is_counted_and_ten_of_a_class_are_read(tmp_path: Path) -> None:
    preview = look(fill(tmp_path, {"red": 60, "blue": 60}))
    assert {label: each.pictures for label, each in preview.classes.items()} == {"blue": 60, "red": 60}
    assert preview.examined == 20
    assert all(len(each.examples) == 10 for each in preview.classes.values())
    assert (preview.problems, preview.unusable, preview.is_complete) == ([], {}, True)


def test_a_split_of_the_source_is_shown(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        fill(tmp_path / part, {"red": count, "blue": count})
    assert look(tmp_path).classes["red"].parts == {"train": 3, "test": 2}


def test_files_that_are_no_pictures_show_with_an_example(tmp_path: Path) -> None:
    fill(tmp_path, {"red": 2, "blue": 2})
    (tmp_path / "red" / "000.png").write_bytes(b"no picture")
    assert look(tmp_path).unusable == {"not_an_image": [(tmp_path / "red" / "000.png").as_uri()]}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    problems = "\n".join(look(fill(tmp_path, {"Red": 5, "red ": 5, "blue": 1})).problems)
    assert "fewer than 2 pictures, one to train with and one to test: blue (1)" in problems
    assert "similar_labels: Red (5) and red (5)" in problems
    assert "about 2 of 11 pictures would test the model" in problems


def test_a_source_that_gives_nothing_says_why(tmp_path: Path) -> None:
    [problem] = look(fill(tmp_path, {"red": 2})).problems
    assert "a classifier needs at least two" in problem


def test_it_ends_when_the_time_is_over(tmp_path: Path) -> None:
    preview = look(fill(tmp_path, {"red": 2, "blue": 2}), seconds=0)
    assert preview.is_complete is False


class TestGuess:
    @pytest.mark.parametrize(
        ("source", "kind"),
        [
            ("https://a.example/pictures.zip?dl=1", "archive"),
            ("https://a.example/x.tar.gz", "archive"),
            ("https://a.example/x.npz", "npz"),
            ("https://a.example/list.CSV", "url_list"),
            ("/no/where/x.tbz2", "archive"),
            ("pictures#1.npz", "npz"),
        ],
    )
    def test_a_name_tells_the_type(self, source: str, kind: str) -> None:
        assert guess_section(STORAGE, source)["type"] == kind

    def test_a_directory_is_a_folder_whatever_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "pictures #1.zip").mkdir()
        section = guess_section(STORAGE, str(tmp_path / "pictures #1.zip"), classes=["a", "b"])
        assert section == {
            "type": "folder", "uri": str(tmp_path / "pictures #1.zip"), "classes": ["a", "b"],
        }  # fmt: skip

    def test_an_object_is_a_file_and_a_prefix_a_folder(self, tmp_path: Path) -> None:
        storage = Storage({"b": tmp_path})
        storage.write_bytes("gs://b/toys/a.zip", b"")
        assert guess_section(storage, "gs://b/toys/a.zip")["type"] == "archive"
        assert guess_section(storage, "gs://b/toys")["type"] == "folder"

    def test_a_page_needs_a_class(self) -> None:
        with pytest.raises(ConfigError, match="add --label"):
            guess_section(STORAGE, "https://a.example/gallery")
        assert guess_section(STORAGE, "https://a.example/gallery", label="red")["type"] == "web_page"
