from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.artifacts.workspace import Workspace
from pipeline.config import read_classifier
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from pipeline.submission.staged_head import stage_head
from pipeline.trainer.head_file import find_builder

TEXT = "def build_head(feature_width, num_classes):\n    return None\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TEXT, "build_head"),
        ("def mine(a, b): ...", "mine"),
        ("def helper(): ...\n" + TEXT, "build_head"),
        ("def head(width, classes, units=3): ...", "head"),
        ("def head(*sizes): ...", "head"),
    ],
)
def test_the_builder_is_known_by_its_name_or_alone(text: str, name: str) -> None:
    assert find_builder(text.encode(), origin="head.py") == name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1", r"head\.py must define `build_head.*found: none"),
        ("def a(x, y): ...\ndef b(x, y): ...", "Functions found: a, b"),
        ("def build_head(width): ...", r"must take two arguments.*Received: build_head\(width\)"),
        ("def build_head(a, b, c): ...", "must take two arguments"),
        ("def build_head(:", r"head\.py, line 1: invalid syntax"),
    ],
)
def test_anything_else_is_told(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        find_builder(text.encode(), origin="head.py")


def test_a_staged_head_is_named_by_its_digest(tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path / "bucket"})
    (tmp_path / "head.py").write_text(TEXT)
    staged = stage_head(Workspace(storage, "gs://graft"), str(tmp_path / "head.py"))
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert (staged.uri, staged.digest) == (f"gs://graft/heads/{digest}.py", digest)
    assert storage.read_bytes(staged.uri) == TEXT.encode()
    assert stage_head(Workspace(storage, "gs://graft"), staged.uri) == staged


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path})
    for place in (str(tmp_path / "none.py"), "gs://graft/none.py"):
        with pytest.raises(ConfigError, match=r"`model\.head\.module`: .*none\.py cannot be read"):
            stage_head(Workspace(storage, "gs://graft"), place)


def test_a_path_in_a_yaml_is_looked_for_beside_it(tmp_path: Path) -> None:
    (tmp_path / "head.py").write_text(TEXT)
    (tmp_path / "m.yaml").write_text(
        "name: m\ndataset: {source: {type: sample}}\nmodel: {head: {module: head.py}}\n"
    )
    assert read_classifier(tmp_path / "m.yaml").model.head.module == str(tmp_path / "head.py")
