"""A source is added to a YAML, and its author finds the rest as it was."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from pipeline.config.files import read_classifier
from pipeline.config.yaml_edit import append_source, with_source
from pipeline.errors import ConfigError

BLOCK = """\
# Toys.
name: toys
dataset:
  # Taken in spring.
  source:
    type: folder   # by hand
    uri: /data

    classes:
      - ant
      - cat
  # How to split:
  split: {seed: 1}
gate: {min_accuracy: 0.9}
"""


def test_a_source_becomes_the_first_of_two() -> None:
    assert (
        with_source(BLOCK, "uploads")
        == """\
# Toys.
name: toys
dataset:
  # Taken in spring.
  sources:
    - type: folder   # by hand
      uri: /data

      classes:
        - ant
        - cat
    - type: uploads
  # How to split:
  split: {seed: 1}
gate: {min_accuracy: 0.9}
"""
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "dataset:\n  source: {type: sample}  # tiles\nname: toys\n",
            "dataset:\n  sources: [{type: sample}, {type: uploads}]  # tiles\nname: toys\n",
        ),
        (
            "{name: toys, dataset: {source: {type: sample}}}",
            "{name: toys, dataset: {sources: [{type: sample}, {type: uploads}]}}",
        ),
        (
            "name: toys\ndataset:\n  sources:\n  - type: sample\n  - {type: sample, label: yes}\n\n# end\n",
            "name: toys\ndataset:\n  sources:\n  - type: sample\n  - {type: sample, label: yes}\n"
            "  - type: uploads\n\n# end\n",
        ),
        (
            "name: toys\ndataset:\n  sources: [{type: sample}, ]",
            "name: toys\ndataset:\n  sources: [{type: sample}, {type: uploads}]",
        ),
    ],
)
def test_other_ways_to_write_it(before: str, after: str) -> None:
    assert with_source(before, "uploads") == after


@pytest.mark.parametrize(
    "text",
    [
        "base: &s {type: sample}\nname: toys\ndataset:\n  source: *s\n",
        "name: toys\ndataset:\n  split: {seed: 1}\n",
        "name: toys\n",
    ],
)
def test_what_only_a_person_can_change_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        with_source(text, "uploads")


def test_a_file_is_changed_once_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "toys.yaml"
    path.write_text(BLOCK)
    path.chmod(0o640)
    assert append_source(path, "uploads")
    assert not append_source(path, "uploads")
    assert [source.type for source in read_classifier(path).dataset.all_sources] == ["folder", "uploads"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["toys.yaml"]


def test_a_file_that_cannot_be_written_says_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toys.yaml"
    path.write_text(BLOCK)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pipeline.config.yaml_file.os.replace", refuse)
    with pytest.raises(ConfigError, match=r"Permission denied.*Add `- type: uploads`"):
        append_source(path, "uploads")
    assert path.read_text() == BLOCK


def test_two_sources_that_are_added_at_once_are_both_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toys.yaml"
    path.write_text("name: toys\ndataset:\n  source: {type: sample}\n")
    replace, together = os.replace, threading.Barrier(2)

    def wait_and_replace(old: str, new: str) -> None:
        with suppress(threading.BrokenBarrierError):
            together.wait(timeout=0.3)
        replace(old, new)

    monkeypatch.setattr("pipeline.config.yaml_file.os.replace", wait_and_replace)
    with ThreadPoolExecutor(2) as pool:
        added = list(pool.map(partial(append_source, path), ("uploads", "feedback")))
    assert added == [True, True]
    types = [source.type for source in read_classifier(path).dataset.all_sources]
    assert (types[0], sorted(types[1:])) == ("sample", ["feedback", "uploads"])
