"""Labels: one form for equal ones, text for numbers, and quotes for what YAML takes for truth values."""

from __future__ import annotations

import unicodedata

import pytest
import yaml

from pipeline.config import Classifier
from pipeline.config.labels import fold_label, normalize_label
from pipeline.errors import ConfigError

DECOMPOSED = unicodedata.normalize("NFD", "Känguru")


def classes_of(text: str) -> list[str] | None:
    classes = yaml.safe_load(text)
    source = {"type": "folder", "uri": "/x", "classes": classes}
    return (
        Classifier.from_dict({"name": "toys", "dataset": {"source": source}})
        .dataset.all_sources[0]
        .declared_classes
    )


def test_equal_labels_have_one_form() -> None:
    assert DECOMPOSED != "Känguru"
    assert normalize_label(f" {DECOMPOSED}\t") == "Känguru"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("[0, 1]", ["0", "1"]),
        ("[10, -3]", ["10", "-3"]),
        ('["yes", "no"]', ["yes", "no"]),
        (f"[{DECOMPOSED}, ' cat ']", ["Känguru", "cat"]),
    ],
)
def test_classes_are_taken_as_text(text: str, labels: list[str]) -> None:
    assert classes_of(text) == labels


@pytest.mark.parametrize("text", ["[yes, no]", "[on, off]", "[True, False]"])
def test_truth_values_are_told_to_need_quotes(text: str) -> None:
    with pytest.raises(ConfigError, match=r"classes.*write the label in quotes"):
        classes_of(text)


def test_a_fraction_is_told_to_need_quotes() -> None:
    with pytest.raises(ConfigError, match=r'in quotes, such as "1\.5"'):
        classes_of("[1.5, 2.5]")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Cat", "cat", True),
        ("golden retriever", "golden-retriever", True),
        ("Café", "cafe", True),
        ("cat", "dog", False),
        ("a1", "a2", False),
        ("--", "++", False),
    ],
)
def test_folded_labels_tell_what_is_written_alike(one: str, other: str, alike: bool) -> None:
    assert (fold_label(one) == fold_label(other)) is alike
