from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.stack
from pipeline.artifacts.run_summary import RunSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.cli import connection, run
from pipeline.cli.demo import pick_test_pictures
from pipeline.cli.run_result import RunResult
from pipeline.storage import Storage
from tests.fakes.rows import manifest_of, manifest_row
from tests.fakes.stack import stack_status
from tests.unit.pipeline.cli.test_predict import Engine
from tests.unit.pipeline.cli.test_run import SUMMARY

Graft = Callable[..., Any]
ROWS = [
    manifest_row(
        label=label,
        split=split,
        status=status,
        blob=str(number),
        position=number,
        source_url="",
        retrieved_at="",
    )
    for number, (label, split, status) in enumerate(
        [
            ("grass", "train", "kept"),
            ("grass", None, "quarantined"),
            ("grass", "test", "kept"),
            ("brick", "test", "kept"),
            ("brick", "test", "kept"),
        ]
    )
]


@pytest.fixture
def storage(home: Path) -> Storage:
    storage = Storage.from_environment()
    manifest_of(storage, "d_1", "surfaces").write(ROWS)
    for row in ROWS:
        storage.write_bytes(f"gs://graft/blobs/{row.blob}", f"{row.label}{row.blob}".encode())
    return storage


def test_one_kept_test_picture_of_each_class_is_picked(storage: Storage) -> None:
    picked = pick_test_pictures(Workspace(storage, "gs://graft"), "surfaces", "d_1")
    assert picked == {"brick": b"brick3", "grass": b"grass2"}


@pytest.fixture
def stage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Everything around the demo, played."""
    summaries = []

    def set_summary(**changes: Any) -> None:
        values = SUMMARY | {"classifier": "surfaces", "version": "v_2"} | changes
        summaries.append(RunSummary.from_dict(values))

    def watch(api: Any, name: str, run_id: str, settings: Any) -> RunResult:
        return RunResult(classifier=name, run_id=run_id, summary=summaries[-1], seconds={"train": 9.5})

    set_summary()
    monkeypatch.setattr(pipeline.stack, "up", lambda settings, on_progress, **_: stack_status())
    monkeypatch.setattr(run, "start_run", lambda api, name, conf, settings: "r1")
    monkeypatch.setattr(run, "watch_run", watch)
    monkeypatch.setattr(connection, "connect_engine", lambda status: _engine())
    return set_summary


def _engine() -> Engine:
    engine = Engine()
    engine.ensure_model("surfaces")
    return engine


@pytest.mark.usefixtures("stage")
def test_demo_tells_the_whole_story(graft: Graft) -> None:
    outcome = graft("demo")
    assert outcome.code == 0
    story = (
        "train   9.5",
        "brick   2",
        "95 % interval",
        "accepted",
        "v_2",
        "grass        grass       0.7500",
        "password shown",
        "make down",
    )
    for part in story:
        assert part in outcome.stdout


def test_demo_that_the_gate_refused_predicts_nothing(graft: Graft, stage: Callable[..., None]) -> None:
    stage(state="refused", version=None, gate={"accepted": False, "reasons": ["too bad"]})
    outcome = graft("demo")
    assert outcome.code == 3
    assert "online predictions" not in outcome.stdout
    assert "password shown" in outcome.stdout
