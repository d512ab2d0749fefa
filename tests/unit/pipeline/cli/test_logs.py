from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.airflow_api import AirflowApi, LogEvent, RunReference, TaskInstance
from pipeline.cli import logs as module
from pipeline.ml_engine.protocol import JobLog
from tests.fakes.ml_engine import FakeMLEngine

Graft = Callable[..., Any]
RUN = "manual__1"


class Engine(FakeMLEngine):
    """Has one job, which prints more each time that it is asked."""

    def __init__(self, *pieces: str) -> None:
        super().__init__()
        self.pieces = list(pieces)
        self.create_job({"jobId": "graft_1", "trainingInput": {}})

    def read_job_log(self, job_id: str, *, offset: int = 0, limit: int = 65_536) -> JobLog:
        text = self.pieces.pop(0) if self.pieces else ""
        return JobLog(text=text, next_offset=offset + len(text), is_complete=not self.pieces)


class Api:
    """A run of two classifiers whose tasks print more from poll to poll."""

    url = "http://127.0.0.1:2"

    def __init__(self) -> None:
        self.states = ["running", "success"]
        self.logs = {"fetch": ["::group::Start", "one", "::endgroup::", "two"], "train": ["start"]}
        self.owners = ["tiles"]
        self.read: list[str] = []

    def find_runs(self, run_id: str, *, dag_id: str | None = None) -> list[RunReference]:
        owners = [owner for owner in self.owners if dag_id in (None, owner)]
        return [RunReference(dag_id=owner, run_id=run_id) for owner in owners if run_id == RUN]

    def run_state(self, dag_id: str, run_id: str) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        began = datetime(2026, 1, 1, tzinfo=UTC)

        def task(name: str, ended: datetime | None) -> TaskInstance:
            return TaskInstance(dag_id=dag_id, run_id=run_id, task_id=name, started=began, ended=ended)

        waiting = TaskInstance(dag_id=dag_id, run_id=run_id, task_id="gate")
        return [waiting, task("train", None), task("fetch", began)]

    def task_log(self, task: TaskInstance) -> list[LogEvent]:
        self.read.append(task.task_id)
        events = [LogEvent(text=text) for text in self.logs[task.task_id]]
        if task.task_id == "train":
            self.logs["train"] = ["start", "end"]
        return events


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    api = Api()

    def connect(*pieces: str) -> Api:
        monkeypatch.setattr(module, "require_stack", dict)
        monkeypatch.setattr(module, "connect_engine", lambda status: Engine(*pieces))
        monkeypatch.setattr(module, "connect_airflow", lambda status: api)
        monkeypatch.setattr(module, "POLL_SECONDS", 0)
        return api

    return connect


def test_a_job_is_shown_line_by_line(graft: Graft, stack: Callable[..., Api]) -> None:
    stack("a\nb", "c\nd")
    assert graft("logs", "graft_1", "-f").stdout.splitlines() == ["a", "bc", "d"]


def test_a_line_stays_whole_on_a_terminal(
    graft: Graft, stack: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "a line of a log " * 20
    stack(f"{line}\n")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert graft("logs", "graft_1").stdout == f"{line}\n"


def test_without_follow_what_a_job_has_printed_is_enough(graft: Graft, stack: Callable[..., Api]) -> None:
    stack("a\n", "", "later\n")
    assert graft("logs", "graft_1").stdout.splitlines() == ["a"]


def test_a_run_is_shown_by_stage_and_each_line_once(graft: Graft, stack: Callable[..., Api]) -> None:
    api = stack()
    lines = graft("logs", RUN, "--follow").stdout.splitlines()
    assert lines == ["fetch | one", "fetch | two", "train | start", "train | end"]
    assert api.read == ["fetch", "train", "train"]


def test_json_is_one_document(graft: Graft, stack: Callable[..., Api]) -> None:
    stack()
    assert graft("logs", RUN, "--json").document == {
        "id": RUN,
        "lines": ["fetch | one", "fetch | two", "train | start"],
    }


def test_an_unknown_id_says_where_ids_are(graft: Graft, stack: Callable[..., Api]) -> None:
    stack()
    outcome = graft("logs", "nothing")
    assert outcome.code == 2
    assert "`graft open NAME`" in outcome.stderr


def test_a_run_id_of_two_classifiers_asks_for_the_classifier(graft: Graft, stack: Callable[..., Api]) -> None:
    stack().owners = ["tiles", "toys"]
    outcome = graft("logs", RUN)
    assert outcome.code == 2
    assert "tiles, toys. Add --classifier" in outcome.stderr
    assert graft("logs", RUN, "--classifier", "toys").code == 0


def test_runs_are_found_by_their_exact_id(httpserver: Any) -> None:
    rows = [{"dag_id": "a", "dag_run_id": RUN}, {"dag_id": "b", "dag_run_id": f"{RUN}1"}]
    httpserver.expect_request("/auth/token").respond_with_json({"access_token": "t"}, status=201)
    httpserver.expect_request(
        "/api/v2/dags/~/dagRuns", query_string={"run_id_pattern": RUN, "limit": "100"}
    ).respond_with_json({"dag_runs": rows})
    api = AirflowApi(httpserver.url_for("").rstrip("/"), "admin", "secret")
    assert api.find_runs(RUN) == [RunReference(dag_id="a", run_id=RUN)]
    httpserver.expect_request("/api/v2/dags/gone/dagRuns").respond_with_json({}, status=404)
    assert api.find_runs(RUN, dag_id="gone") == []
