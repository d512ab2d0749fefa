"""Labels: one form for equal ones, text for numbers, and quotes for what YAML takes for truth values."""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.config import Classifier
from pipeline.config.labels import fold_label, normalize_label, read_label
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError

DECOMPOSED = unicodedata.normalize("NFD", "Känguru")


def classes_of(text: str) -> list[str] | None:
    value = parse_yaml(f"name: toys\ndataset: {{source: {{type: folder, uri: /x, classes: {text}}}}}")
    assert isinstance(value, dict)
    return Classifier.from_dict(value).dataset.all_sources[0].declared_classes


def test_equal_labels_have_one_form() -> None:
    assert DECOMPOSED != "Känguru"
    assert normalize_label(f" {DECOMPOSED}\t") == "Känguru"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("[0, 1]", ["0", "1"]),
        ("[10, -3]", ["10", "-3"]),
        ('["yes", "no"]', ["yes", "no"]),
        ("[yes, no]", ["yes", "no"]),
        ("[On, off, TRUE]", ["On", "off", "TRUE"]),
        ("[007, 1.5, 2024-05-06]", ["007", "1.5", "2024-05-06"]),
        (f"[{DECOMPOSED}, ' cat ']", ["Känguru", "cat"]),
    ],
)
def test_classes_are_taken_as_text(text: str, labels: list[str]) -> None:
    assert classes_of(text) == labels


def test_a_label_that_is_empty_is_told_to_be_text() -> None:
    with pytest.raises(ConfigError, match=r"classes\[1\].* must be text"):
        classes_of("[cat, ~]")


@pytest.mark.parametrize("value", [True, 1.5])
def test_what_a_program_sends_as_another_type_needs_quotes(value: bool | float) -> None:
    with pytest.raises(ValueError, match="in quotes, such as"):
        read_label(value)


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
