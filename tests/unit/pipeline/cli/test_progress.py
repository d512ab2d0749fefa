from datetime import UTC, datetime

import pytest

from pipeline.airflow_api import LogEvent, TaskInstance
from pipeline.cli.fetch_log import FetchLog
from pipeline.cli.progress import RunProgress, Stage, summarise_stages
from pipeline.datasets.progress import FetchCounts, Progress, read_line

NOW = datetime(2026, 1, 1, 12, 1, tzinfo=UTC)


def task(
    name: str, state: str | None, start: int | None = None, end: int | None = None, map_index: int = -1
) -> TaskInstance:
    def at(second: int | None) -> str | None:
        return None if second is None else f"2026-01-01T12:00:{second:02}.500000Z"

    return TaskInstance.from_dict(
        {
            "dag_id": "toys",
            "dag_run_id": "r",
            "task_id": name,
            "state": state,
            "map_index": map_index,
            "try_number": 1,
            "start_date": at(start),
            "end_date": at(end),
        }
    )


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
        (
            [task("pack", "upstream_failed", 10, 10)],
            Stage(name="pack", state="upstream_failed", seconds=None),
        ),
        ([task("publish", None)], Stage(name="publish", state="waiting", seconds=None)),
        (
            [task("pack", "success", 1, 4, 0), task("pack", None, map_index=1)],
            Stage(name="pack", state="running", seconds=58.5),
        ),
    ],
    ids=[
        "one",
        "mapped span",
        "one runs",
        "one failed",
        "deferred",
        "skipped",
        "did not run",
        "waiting",
        "one waits",
    ],
)
def test_instances_fold_into_one_stage(instances: list[TaskInstance], expected: Stage) -> None:
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


COUNTS = FetchCounts(transferred=12, per_second=4.0, megabytes=0.25, known=3, refused=1)


class Logs:
    """The logs of fetch tasks by map index, and who was asked for."""

    def __init__(self, **lines: list[str]) -> None:
        self.lines = {int(name.removeprefix("chunk")): texts for name, texts in lines.items()}
        self.asked: list[int] = []

    def task_log(self, task: TaskInstance) -> list[LogEvent]:
        self.asked.append(task.map_index)
        return [LogEvent(text=text) for text in self.lines.get(task.map_index, [])]


class TestDownloads:
    def test_a_line_of_a_task_log_is_read_as_it_was_said(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        progress = Progress("toys, chunk 1 of 1")
        for _ in range(12):
            progress.note(is_new=True, num_bytes=10)
        progress.note()
        progress.note(reason="not_found")
        progress.log()
        found = read_line(caplog.messages[-1])
        assert found is not None
        assert (found.transferred, found.known, found.refused) == (12, 1, 1)
        assert found.per_second > 0
        assert str(found) in caplog.messages[-1]
        assert read_line("toys: 3 shards") is None

    def test_of_several_tasks_are_added(self) -> None:
        logs = Logs(
            chunk0=["begin", f"toys, chunk 1 of 2: {COUNTS}: 1 not_found", "end"], chunk1=[f"x: {COUNTS}"]
        )
        tasks = [task("fetch", "running", 1, None, chunk) for chunk in (0, 1, 2)]
        found = FetchLog(logs).read([*tasks, task("clean", None)])  # type: ignore[arg-type]
        assert found == FetchCounts(transferred=24, per_second=8.0, megabytes=0.5, known=6, refused=2)

    def test_logs_are_asked_for_every_two_seconds_and_once_at_the_end(self) -> None:
        clock = [0.0]
        logs = Logs(chunk0=[f"x: {COUNTS}"])
        downloads = FetchLog(logs, now=lambda: clock[0])  # type: ignore[arg-type]
        for second in (0.0, 1.0, 1.9, 2.1):
            clock[0] = second
            assert downloads.read([task("fetch", "running", 1, None, 0)]) == COUNTS
        assert logs.asked == [0, 0]
        for _ in range(3):
            assert downloads.read([task("fetch", "success", 1, 2, 0)]) == COUNTS
        assert logs.asked == [0, 0, 0]

    def test_are_unknown_before_the_first_line(self) -> None:
        logs = Logs(chunk0=["begin"])
        assert FetchLog(logs).read([task("fetch", "running", 1, None, 0)]) is None  # type: ignore[arg-type]

    def test_are_a_line_a_change_where_there_is_no_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        stages = [Stage(name="fetch", state="running", seconds=None)]
        with RunProgress() as progress:
            for counts in (None, COUNTS, COUNTS):
                progress.show(stages, counts)
        assert capsys.readouterr().err.splitlines() == [
            "  fetch           running",
            "  fetch           12 pictures transferred (4.0/s, 0.25 MB/s), 3 known already, 1 refused",
        ]

    def test_of_a_folder_have_no_speed_of_a_network(self) -> None:
        counts = FetchCounts(transferred=12, per_second=4.0, known=3, refused=1)
        assert str(counts) == "12 pictures transferred (4.0/s), 3 known already, 1 refused"
        assert read_line(f"chunk 0: {counts}") == counts

    @pytest.mark.parametrize("state", ["running", "success"])
    def test_are_a_bar_on_a_terminal(
        self, state: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "120")
        with RunProgress() as progress:
            progress.show([Stage(name="fetch", state=state, seconds=2.04)], COUNTS)
        printed = capsys.readouterr().err
        assert "12 pictures transferred (4.0/s, 0.25 MB/s), 3 known already, 1 refused" in printed
        assert "\u2501" in printed
