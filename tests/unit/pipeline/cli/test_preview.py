from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings, find_classifier, read_classifier
from tests.unit.pipeline.preprocess.test_preview import fill

Graft = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return fill(tmp_path / "pictures", {"red": 3, "blue": 4})


class TestPreview:
    def test_a_folder_needs_no_yaml(self, graft: Graft, home: Path, pictures: Path) -> None:
        outcome = graft("dataset", "preview", str(pictures), "--json")
        assert outcome.code == 0
        assert outcome.document["classes"]["red"]["pictures"] == 3
        assert not home.exists()

    def test_the_text_fits_80_columns(self, graft: Graft, pictures: Path) -> None:
        outcome = graft("dataset", "preview", str(pictures))
        tables = [line for line in outcome.stdout.splitlines() if "problem:" not in line]
        assert max(map(len, tables)) <= 80
        assert "blue" in tables[1]

    def test_a_classifier_is_looked_at_by_its_name(self, graft: Graft) -> None:
        classes = graft("dataset", "preview", "surfaces", "--json").document["classes"]
        assert len(classes) >= 2

    def test_what_is_not_there_is_named(self, graft: Graft, pictures: Path) -> None:
        outcome = graft("dataset", "preview", str(pictures.parent / "picturs"))
        assert outcome.code == 2
        assert "did you mean `pictures`?" in outcome.stderr
        assert "did you mean `surfaces`?" in graft("dataset", "preview", "surfases").stderr


class TestInit:
    def test_it_writes_a_yaml_that_is_read_back(self, graft: Graft, home: Path, pictures: Path) -> None:
        outcome = graft("init", "toys", str(pictures))
        assert outcome.code == 0, outcome.stderr
        path = home / "classifiers" / "toys.yaml"
        assert "it saw blue 4, red 3" in path.read_text().splitlines()[0]
        assert read_classifier(path).dataset.source.uri == str(pictures)
        assert find_classifier("toys", Settings()).name == "toys"

    def test_json_is_one_document(self, graft: Graft, home: Path, pictures: Path) -> None:
        document = graft("init", "toys", str(pictures), "--json").document
        assert document["path"] == str(home / "classifiers" / "toys.yaml")
        assert document["classes"]["blue"]["pictures"] == 4

    @pytest.mark.parametrize("name", ["surfaces", "1toys", "my toys", "../toys"])
    def test_a_name_that_is_taken_or_none_is_refused(
        self, graft: Graft, home: Path, pictures: Path, name: str
    ) -> None:
        assert graft("init", name, str(pictures)).code == 2
        assert not home.exists()

    def test_a_file_that_is_there_is_kept(self, graft: Graft, home: Path, pictures: Path) -> None:
        (home / "classifiers").mkdir(parents=True)
        (home / "classifiers" / "toys.yaml").write_text("name: others\n")
        assert graft("init", "toys", str(pictures)).code == 2
        assert (home / "classifiers" / "toys.yaml").read_text() == "name: others\n"

    def test_a_place_without_two_classes_gives_no_yaml(
        self, graft: Graft, home: Path, tmp_path: Path
    ) -> None:
        outcome = graft("init", "toys", str(fill(tmp_path / "one", {"red": 3})))
        assert outcome.code == 2
        assert "toys was not written" in outcome.stderr
        assert not home.exists()

    def test_a_line_break_in_a_label_stays_in_the_comment(
        self, graft: Graft, home: Path, tmp_path: Path
    ) -> None:
        fill(tmp_path / "odd", {"re\nschedule: '@daily'": 2, "blue": 2})
        graft("init", "toys", str(tmp_path / "odd"))
        path = home / "classifiers" / "toys.yaml"
        assert not path.exists() or read_classifier(path).schedule is None
