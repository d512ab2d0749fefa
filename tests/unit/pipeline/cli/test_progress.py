from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.cli.progress import RunProgress, Stage, summarise_stages

NOW = datetime(2026, 1, 1, 12, 1, tzinfo=UTC)


def task(
    name: str, state: str | None, start: int | None = None, end: int | None = None, map_index: int = -1
) -> dict[str, Any]:
    def at(second: int | None) -> str | None:
        return None if second is None else f"2026-01-01T12:00:{second:02}.500000Z"

    return {
        "task_id": name,
        "state": state,
        "map_index": map_index,
        "start_date": at(start),
        "end_date": at(end),
    }


def test_stages_come_in_the_order_of_the_pipeline() -> None:
    found = summarise_stages([task(name, None) for name in ("train", "custom", "gate", "fetch")], now=NOW)
    assert [stage.name for stage in found] == ["fetch", "train", "gate", "custom"]


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([task("pack", "success", 1, 4)], Stage(name="pack", state="success", seconds=3.0)),
        (
            [task("pack", "success", 1, 4, 0), task("pack", "success", 2, 9, 1)],
            Stage(name="pack", state="success", seconds=8.0),
        ),
        (
            [task("pack", "success", 1, 4, 0), task("pack", "running", 2, None, 1)],
            Stage(name="pack", state="running", seconds=58.5),
        ),
        (
            [task("pack", "failed", 1, 4, 0), task("pack", "running", 2, None, 1)],
            Stage(name="pack", state="failed", seconds=58.5),
        ),
        ([task("train", "deferred", 10)], Stage(name="train", state="deferred", seconds=49.5)),
        ([task("publish", "skipped", 10, 10)], Stage(name="publish", state="skipped", seconds=None)),
        ([task("publish", None)], Stage(name="publish", state="waiting", seconds=None)),
        (
            [task("pack", "success", 1, 4, 0), task("pack", None, map_index=1)],
            Stage(name="pack", state="running", seconds=58.5),
        ),
    ],
    ids=["one", "mapped span", "one runs", "one failed", "deferred", "skipped", "waiting", "one waits"],
)
def test_instances_fold_into_one_stage(instances: list[dict[str, Any]], expected: Stage) -> None:
    assert summarise_stages(instances, now=NOW) == [expected]


def test_a_line_is_printed_for_each_change_only(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress() as progress:
        progress.show([Stage(name="fetch", state="waiting", seconds=None)])
        progress.show([Stage(name="fetch", state="running", seconds=None)])
        progress.show([Stage(name="fetch", state="running", seconds=1.0)])
        progress.show([Stage(name="fetch", state="success", seconds=2.04)])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["  fetch           running", "  fetch           success  2.0 s"]


def test_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with RunProgress() as progress:
        progress.show([Stage(name="fetch", state="success", seconds=2.04)])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "fetch" in printed.err
    assert "2.0" in printed.err
