"""`graft predict --out`: a row for each picture, and a second run that goes on with the first one's."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import predict as module
from pipeline.errors import PlatformError, PlatformUnavailable
from tests.fakes.bulk import photos, read_rows
from tests.fakes.ml_engine import FakeMLEngine

Graft = Callable[..., Any]
BAD = b"bad"


def answer(version: str, instance: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(instance["inputs"]["b64"])
    if data == BAD:
        raise PlatformError("instance 0: the bytes are no picture", status=200)
    return {"key": instance["key"], "label": data.decode(), "score": 0.75, "novelty": 0.5, "outputs": [0.75]}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeMLEngine:
    engine = FakeMLEngine(answer=answer)
    engine.ensure_model("tiles")
    engine.create_version("tiles", {"name": "v_1"})
    engine.create_version("tiles", {"name": "v_2"})
    monkeypatch.setattr(module, "require_stack", dict)
    monkeypatch.setattr(module, "connect_engine", lambda status: engine)
    return engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path)


def test_every_picture_is_a_row_and_a_bad_one_says_why(
    graft: Graft, engine: FakeMLEngine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    outcome = graft(
        "predict", "tiles", str(folder), str(tmp_path / "absent.jpg"), "--out", str(out), "--json"
    )
    assert outcome.code == 0
    assert outcome.document == {
        "file": str(out),
        "version": "v_1",
        "answered": 3,
        "failed": 2,
        "skipped": 0,
    }
    assert out.read_text().startswith("file,classifier,version,label,score,novelty,error\n")
    rows = {Path(row["file"]).name: row for row in read_rows(out)}
    assert rows["a.jpg"] == {
        "file": str(folder / "a.jpg"),
        "classifier": "tiles",
        "version": "v_1",
        "label": "ant",
        "score": "0.750000",
        "novelty": "0.500000",
        "error": "",
    }
    assert rows["z.jpg"]["error"] == "the bytes are no picture"
    assert rows["absent.jpg"]["error"] == "cannot be read: No such file or directory"


def test_a_second_run_asks_only_for_what_has_no_answer(
    graft: Graft, engine: FakeMLEngine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    graft("predict", "tiles", str(folder), "--out", str(out), "--version", "v_1")
    (folder / "z.jpg").write_bytes(b"zebra")
    engine.set_default("tiles", "v_2")
    outcome = graft("predict", "tiles", str(folder), "--out", str(out))
    assert outcome.stdout == f"{out}: 1 answered by v_1; 3 were there already.\n"
    assert [row["label"] for row in read_rows(out)] == ["ant", "bee", "cat", "zebra"]
    assert {row["version"] for row in read_rows(out)} == {"v_1"}


def test_an_engine_that_goes_away_leaves_whole_rows_to_go_on_with(
    graft: Graft,
    engine: FakeMLEngine,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.bulk.run.CHUNK_PICTURES", 1)
    asked = []

    def fail_third(version: str, instance: dict[str, Any]) -> dict[str, Any]:
        asked.append(instance["key"])
        if len(asked) == 3:
            raise PlatformUnavailable("the engine does not answer")
        return answer(version, instance)

    engine.answer, out = fail_third, tmp_path / "results.csv"
    assert graft("predict", "tiles", str(folder), "--out", str(out)).code == 1
    assert len(read_rows(out)) == 2
    assert graft("predict", "tiles", str(folder), "--out", str(out)).code == 0
    assert sorted(row["label"] for row in read_rows(out)) == ["", "ant", "bee", "cat"]
    assert asked.count(str(folder / "a.jpg")) == 1


def test_usage_is_checked_before_anything_is_asked(
    graft: Graft, engine: FakeMLEngine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    assert graft("predict", "--all", str(folder), "--out", str(out)).code == 2
    graft("predict", "tiles", str(folder), "--out", str(out), "--version", "v_1")
    other = graft("predict", "tiles", str(folder), "--out", str(out), "--version", "v_2")
    assert (other.code, "has answers of v_1" in other.stderr) == (2, True)
    named = graft("predict", "walls", str(folder), "--out", str(out))
    assert "has answers of tiles, not walls" in named.stderr
    out.write_text("my,own,table\n1,2,3\n")
    assert "has not written it" in graft("predict", "tiles", str(folder), "--out", str(out)).stderr
    assert out.read_text() == "my,own,table\n1,2,3\n"


def test_a_folder_without_out_is_told_of_it(graft: Graft, engine: FakeMLEngine, folder: Path) -> None:
    assert "--out" in graft("predict", "tiles", str(folder)).stderr
