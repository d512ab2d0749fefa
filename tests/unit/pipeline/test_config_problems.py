"""Mistakes in a YAML: told in its own words, and never larger or slower than the YAML is worth."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Classifier, Settings, find_classifier, read_classifier, with_params
from pipeline.config.yaml_text import MAX_CHARACTERS, parse_yaml
from pipeline.errors import ConfigError

SAMPLE = {"name": "toys", "dataset": {"source": {"type": "sample"}}}


def bomb(levels: int) -> str:
    """Nested aliases: each level is ten of the one before."""
    lines = [f"  - &a{level} [{','.join([f'*a{level - 1}'] * 10)}]" for level in range(1, levels)]
    first = "  - &a0 [x,x,x,x,x,x,x,x,x,x]"
    return (
        "\n".join(["name: bomb", "dataset: {source: {type: sample}}", "description:", first, *lines]) + "\n"
    )


def problem(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Classifier.from_dict({**SAMPLE, **sections})
    return caught.value.message


class TestLargeInput:
    @pytest.mark.parametrize("levels", [3, 7, 8, 60])
    def test_nested_aliases_end_at_once_in_a_short_message(self, levels: int, tmp_path: Path) -> None:
        (tmp_path / "bomb.yaml").write_text(bomb(levels))
        began = time.monotonic()
        with pytest.raises(ConfigError) as caught:
            read_classifier(tmp_path / "bomb.yaml")
        assert len(caught.value.message) < 1000
        assert time.monotonic() - began < 2

    def test_an_alias_to_what_it_lies_in_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="its aliases expanded"):
            parse_yaml("a: &a [*a]")

    def test_an_alias_that_repeats_a_section_is_taken(self) -> None:
        assert parse_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}") == {
            "a": {"b": 1},
            "c": {"b": 1},
            "d": {"b": 1, "e": 2},
        }

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("[" * 50_000, "nested more than 64 levels deep"),
            ("".join(f"{' ' * level}a:\n" for level in range(100)), "nested more than 64"),
            ("a: " + "x" * MAX_CHARACTERS, "larger than"),
            ("a: 2026-99-99", "month must be in"),
            ("a: " + "9" * 5000, "number of more than 100 digits"),
            ("a: " + "1:" * 80_000 + "1", "number of more than 100 digits"),
            ("a: [", "expected"),
        ],
        ids=["deep", "deep block", "long", "no date", "huge number", "huge number of base 60", "open"],
    )
    def test_what_cannot_be_read_is_a_config_error(self, text: str, match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            parse_yaml(text)

    def test_values_and_keys_are_shortened(self) -> None:
        assert len(problem(name="x" * 100_000)) < 300
        assert len(problem(**{"k" * 100_000: 1})) < 300
        assert len(problem(schedule=["x"] * 9000)) < 300

    def test_many_problems_are_counted(self) -> None:
        message = problem(**{f"key_{number}": 1 for number in range(5000)})
        assert "`key_0`" in message
        assert "more problems" in message
        assert len(message) < 2000

    def test_every_message_of_ours_is_bounded_and_survives_pickling(self) -> None:
        error = ConfigError(f"begin {'x' * 1_000_000} end")
        assert len(error.message) < 21_000
        assert error.message.startswith("begin")
        assert error.message.endswith("end")
        assert "characters left out" in error.message
        assert pickle.loads(pickle.dumps(error)).message == error.message


class TestWords:
    @pytest.mark.parametrize(
        ("sections", "expected"),
        [
            ({"model": {"epocs": 3}}, "unknown key `model.epocs`.*did you mean `epochs`"),
            ({"min_accuracy": 0.5}, "unknown key `min_accuracy`.*did you mean `gate.min_accuracy`"),
            (
                {"retrain": {"quiet_seconds": 3}},
                "quiet_seconds` is called `retrain.debounce_seconds` now",
            ),
            ({"dataset": {"source": {"type": "foldr"}}}, "Received: 'foldr' \\(did you mean `folder`"),
            (
                {"dataset": {"source": {"uri": "x"}}},
                "`dataset.source.type` is missing; it is one of folder,",
            ),
            (
                {"dataset": {"sources": [{"type": "sample"}, {"type": "folder", "uri": 3}]}},
                r"`dataset.sources\[1\].uri` must be text. Received: 3",
            ),
            (
                {"dataset": {"sources": [{"type": "sample"}, {"type": "folder", "urri": "x", "uri": "y"}]}},
                r"unknown key `dataset.sources\[1\].urri`.*did you mean `uri`",
            ),
            ({"model": {"epochs": "many"}}, "`model.epochs` must be a whole number. Received: 'many'"),
            ({"model": {"epochs": 0}}, "`model.epochs` must be at least 1. Received: 0"),
            ({"model": 3}, "`model` must be a section with keys of its own. Received: 3"),
            (
                {"dataset": {"split": {"method": "hsh"}}},
                "`dataset.split.method` must be 'hash', 'random' or 'given'",
            ),
        ],
    )
    def test_a_mistake_is_told_as_the_yaml_spells_it(self, sections: dict[str, Any], expected: str) -> None:
        section = {**SAMPLE["dataset"], **sections["dataset"]} if "split" in str(sections) else None
        given = {**sections, "dataset": section} if section else sections
        with pytest.raises(ConfigError, match=expected):
            Classifier.from_dict({**SAMPLE, **given})

    def test_no_words_of_pydantic_are_left(self) -> None:
        message = problem(
            model={"epochs": "x", "head": {"units": -1}}, dataset={"source": {"type": "npz", "a": 1}}
        )
        for word in ("Input should", "valid integer", ".npz.", "extra_forbidden", "pydantic"):
            assert word not in message

    def test_a_key_with_several_types_is_named_once(self) -> None:
        message = problem(dataset={"source": {"type": "openverse", "queries": {"ant": 3, "bee": "bee"}}})
        assert message.count("`dataset.source.queries") == 1

    def test_a_parameter_and_a_classifier_are_suggested(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"`model\.epoch` \(did you mean `model\.epochs`\?\)"):
            with_params(Classifier.from_dict(SAMPLE), {"model.epoch": 3})
        with pytest.raises(ConfigError, match=r"named 'surfacs' \(did you mean `surfaces`\?\)"):
            find_classifier("surfacs", Settings(home=tmp_path))
