"""The file of a new classifier: as a person would write it, checked, and never over another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.config.files import read_classifier
from pipeline.config.new_classifier import create_classifier_file, write_yaml
from pipeline.errors import ClassifierExists, ConfigError, PipelineError

TEXT = "# Toys.\nname: toys\ndataset:\n  source: {type: uploads}\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", classifiers=str(tmp_path / "more"))


def create(settings: Settings, text: str = TEXT) -> Path:
    return create_classifier_file(text, settings.own_classifiers, settings)


def test_the_text_becomes_a_file_that_is_named_like_its_classifier(settings: Settings) -> None:
    path = create(settings)
    assert path == settings.own_classifiers / "toys.yaml"
    assert path.read_text() == TEXT
    assert read_classifier(path).name == "toys"
    assert [each.name for each in path.parent.iterdir()] == ["toys.yaml"]


def test_of_many_at_once_one_is_written(settings: Settings) -> None:
    texts = [f"# {number}\n{TEXT}" for number in range(8)]

    def attempt(text: str) -> Path | PipelineError:
        try:
            return create(settings, text)
        except ClassifierExists as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, texts))
    written = [text for text, outcome in zip(texts, outcomes, strict=True) if isinstance(outcome, Path)]
    assert [(settings.own_classifiers / "toys.yaml").read_text()] == written
    assert sum(isinstance(outcome, ClassifierExists) for outcome in outcomes) == 7


@pytest.mark.parametrize("file", ["toys.yaml", "toys.yml", "others.yaml"])
def test_a_name_that_is_taken_is_refused_with_the_remedy(
    settings: Settings, tmp_path: Path, file: str
) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / file).write_text("name: toys\nbroken: true\n")
    with pytest.raises(ClassifierExists, match="choose another one, or add pictures"):
        create(settings)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "expected a mapping"),
        ("name: [", "not readable"),
        ("name: toys\n", "`dataset` is missing"),
        ("name: ../toys\ndataset: {source: {type: uploads}}", "`name` must be text that matches"),
        ("name: toys\ndataset: {source: {type: upload}}", "did you mean `uploads`"),
        (
            "name: toys\ndataset: {source: {type: uploads}}\n"
            "gate: {min_accuracy: 0.5, override_by: x, override_reason: y}",
            "toys.yaml.*parameters of one run",
        ),
    ],
)
def test_a_text_that_is_none_is_never_written(settings: Settings, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        create(settings, text)
    assert not list(settings.own_classifiers.glob("*")) if settings.own_classifiers.is_dir() else True


def test_a_directory_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    settings.home.mkdir()
    settings.own_classifiers.write_text("a file is here")
    with pytest.raises(ConfigError, match=r"toys\.yaml"):
        create(settings)


def test_comments_stay_comments(settings: Settings) -> None:
    text = write_yaml({"name": "toys", "dataset": {"source": {"type": "uploads"}}}, ["by\nname: evil"])
    assert text.splitlines() == [
        "# by name: evil",
        "name: toys",
        "dataset:",
        "  source:",
        "    type: uploads",
    ]
