"""A preview in a process of its own, bounded in time and memory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Classifier
from pipeline.errors import DatasetError
from pipeline.preprocess import preview_process
from pipeline.preprocess.preview_process import preview_in_process
from tests.fakes.pictures import folder_of


def of(source: dict[str, Any]) -> Classifier:
    return Classifier.from_dict({"name": "toys", "dataset": {"source": source}})


def test_it_tells_what_a_preview_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    folder = folder_of(tmp_path / "toys", {"ant": 3, "cat": 2})
    answer = preview_in_process(of({"type": "folder", "uri": str(folder)}))
    assert {label: each.pictures for label, each in answer.classes.items()} == {"ant": 3, "cat": 2}


@pytest.mark.parametrize(("code", "stdout"), [(-9, ""), (1, "")])
def test_one_that_takes_too_much_ends_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, code: int, stdout: str
) -> None:
    done = subprocess.CompletedProcess([], code, stdout=stdout, stderr="MemoryError")
    monkeypatch.setattr(preview_process.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DatasetError, match="more memory.*start a run"):
        preview_in_process(of({"type": "sample"}))


def test_one_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_process, "GRACE_SECONDS", 0.0)
    with pytest.raises(DatasetError, match="took longer than 0 s"):
        preview_in_process(of({"type": "sample"}), seconds=0.05)
