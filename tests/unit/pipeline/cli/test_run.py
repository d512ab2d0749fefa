"""`graft run` against a small HTTP stand-in for Airflow; the real one is in tests/e2e."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pipeline.airflow_api import AirflowApi, TaskInstance
from pipeline.cli import run as module
from pipeline.cli.connection import PATIENCE_SECONDS
from pipeline.cli.output import ExitCode, UsageError
from pipeline.cli.run_result import RunResult
from pipeline.config import Settings
from pipeline.errors import ConfigError, StackError
from pipeline.storage import Storage
from tests.fakes.clock import FakeClock
from tests.fakes.stack import stack_status

Graft = Callable[..., Any]
RUN = "manual__2026-01-01T00:00:00+00:00"
QUOTED = "manual__2026-01-01T00%3A00%3A00%2B00%3A00"
SUMMARY = {
    "classifier": "tiles",
    "run_id": RUN,
    "state": "success",
    "dataset": {"version": "d_1", "pictures": 4, "classes": {"brick": 2, "grass": 2}},
    "work": {"downloaded": 4, "decoded": 4, "forwarded": 2, "cached": 0},
    "evaluation": {
        "accuracy": 0.95,
        "accuracy_ci95": [0.9, 0.99],
        "loss": 0.1,
        "test_pictures": 2,
        "job": "graft_1",
    },
    "gate": {"accepted": True, "reasons": []},
    "version": "v_1",
}


class Airflow:
    """What Airflow answers; each list is given out entry by entry, its last entry for ever."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("").rstrip("/")
        self.parsed = ["2100-01-01T00:00:00Z"]
        self.states = ["success"]
        self.tasks: list[list[dict[str, Any]]] = [[]]
        self.log: list[dict[str, Any]] = []
        self.import_errors: list[dict[str, str]] = []
        self.confs: list[Any] = []
        self.run_ids: list[str] = []
        self.dags = [
            {"dag_id": "rollback", "bundle_name": "dags-folder", "file_token": "rollback"},
            {"dag_id": "other", "bundle_name": "classifiers", "file_token": "other/token"},
        ]
        self.parse_requests: list[str] = []
        self.parse_status = 201
        self.runs = [{"dag_run_id": RUN, "state": "failed"}]
        self.cleared: list[Any] = []
        self.clear_status = 200
        self.logins = 0
        server.expect_request(re.compile(".*")).respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        if request.path == "/auth/token":
            self.logins += 1
            assert request.json == {"username": "admin", "password": "secret"}
            return self.reply({"access_token": f"t{self.logins}"}, 201)
        if request.headers["Authorization"] != f"Bearer t{self.logins}":
            return self.reply({"detail": "expired"}, 401)
        return self.route(request)

    def route(self, request: Request) -> Response:
        path = request.path.removeprefix("/api/v2")
        if request.method == "PUT":
            self.parse_requests.append(path.removeprefix("/parseDagFile/"))
            return self.reply({"detail": "Unique constraint violation"}, self.parse_status)
        if path.endswith("/clearTaskInstances"):
            self.cleared.append(request.json)
            return self.reply({"detail": "at work"} if self.clear_status == 409 else {}, self.clear_status)
        if path == "/dags/tiles/dagRuns" and request.method == "GET":
            assert request.args["order_by"] == "-run_after"
            return self.reply({"dag_runs": self.runs})
        if request.method == "POST":
            body = dict(request.json)
            self.run_ids.append(body.pop("dag_run_id"))
            self.confs.append(body)
            return self.reply({"dag_run_id": RUN, "state": "queued"})
        if path == "/dags":
            return self.reply({"dags": self.dags, "total_entries": len(self.dags)})
        if path == "/dags/tiles":
            parsed = self.next(self.parsed)
            found = {"is_stale": parsed == "stale", "last_parsed_time": parsed}
            return self.reply(found) if parsed else self.reply({"detail": "no such dag"}, 404)
        if path == "/importErrors":
            return self.reply({"import_errors": self.import_errors})
        if path.endswith("/taskInstances"):
            tasks = self.next(self.tasks)
            return self.reply({"task_instances": tasks, "total_entries": len(tasks)})
        if "/logs/" in path:
            return self.reply({"content": self.log, "continuation_token": None})
        return self.reply({"state": self.next(self.states)})

    @staticmethod
    def next(values: list[Any]) -> Any:
        return values.pop(0) if len(values) > 1 else values[0]

    @staticmethod
    def reply(value: Any, status: int = 200) -> Response:
        return Response(json.dumps(value), status=status, content_type="application/json")


def task(name: str, state: str, **extra: Any) -> dict[str, Any]:
    times = {"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-01T00:00:02Z"}
    return (
        {
            "task_id": name,
            "dag_id": "tiles",
            "dag_run_id": RUN,
            "map_index": -1,
            "try_number": 1,
            "state": state,
        }
        | times
        | extra
    )


@pytest.fixture
def classifier(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "yaml" / "tiles.yaml"
    path.parent.mkdir()
    path.write_text("name: tiles\ndataset: {source: {type: sample}}\n")
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(path.parent))
    return path


@pytest.fixture
def airflow(httpserver: HTTPServer, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow = Airflow(httpserver)
    status = stack_status(airflow_url=airflow.url, password="secret")
    monkeypatch.setattr(module, "require_stack", lambda: status)
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    Storage.from_environment().write_json(f"gs://graft/runs/tiles/{QUOTED}/summary.json", SUMMARY)
    return airflow


class TestParameters:
    @pytest.fixture
    def read(self, classifier: Path) -> Callable[..., dict[str, Any]]:
        return lambda *params: module.read_params("tiles", list(params), Settings())

    def test_values_are_yaml_scalars_under_full_names(self, read: Callable[..., dict[str, Any]]) -> None:
        assert read("epochs=40", "split.method=random", "model.learning_rate=0.01") == {
            "model.epochs": 40,
            "dataset.split.method": "random",
            "model.learning_rate": 0.01,
        }

    @pytest.mark.parametrize(
        ("param", "message"),
        [
            ("epochs", "KEY=VALUE"),
            ("=3", "KEY=VALUE"),
            ("epoch=3", r"unknown parameter `epoch` \(did you mean `epochs`\?\); known: .*model\.epochs"),
            ("seed=3", "ambiguous"),
            ("epochs=many", r"`model\.epochs`.* a whole number"),
            ("epochs=[", "the value is not YAML"),
        ],
    )
    def test_bad_parameter_is_a_usage_error(
        self, read: Callable[..., dict[str, Any]], param: str, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            read(param)

    def test_path_beside_the_caller_is_made_absolute(
        self, read: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "weights.npz").touch()
        assert read("weights=weights.npz") == {"model.weights": f"{tmp_path}/weights.npz"}
        assert read("weights=gs://graft/w.npz") == {"model.weights": "gs://graft/w.npz"}

    def test_unknown_classifier_is_a_usage_error(self, classifier: Path) -> None:
        with pytest.raises(UsageError, match=r"no classifier is named 'other'; known: .*tiles"):
            module.read_params("other", [], Settings())

    def test_broken_yaml_is_an_error_of_the_file(self, classifier: Path) -> None:
        classifier.write_text("name: tiles\ndatset: {}\n")
        with pytest.raises(ConfigError, match=r"tiles\.yaml.*`datset`") as caught:
            module.read_params("tiles", [], Settings())
        assert not isinstance(caught.value, UsageError)


class TestForce:
    """Doing a step of the last run again."""

    @pytest.mark.parametrize("status", [200, 409])  # 409: an earlier request, whose answer was lost, did it
    def test_the_step_and_those_after_it_are_done_again_and_watched(
        self, graft: Graft, airflow: Airflow, status: int
    ) -> None:
        airflow.clear_status = status
        airflow.tasks = [[task("train", "failed")], [task("train", "success")]]
        ran = graft("run", "tiles", "--force", "train", "--json")
        assert (ran.code, ran.document["run_id"], ran.document["version"]) == (ExitCode.OK, RUN, "v_1")
        assert airflow.run_ids == []
        assert airflow.cleared == [
            {
                "dag_run_id": RUN,
                "task_ids": ["train"],
                "include_downstream": True,
                "only_failed": False,
                "prevent_running_task": True,
                "dry_run": False,
            }
        ]

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (
                ("--force", "trian"),
                r"no step 'trian' \(did you mean `train`\?\); the steps are settle, fetch",
            ),
            (("--force", "train", "--param", "epochs=3"), "with that run's parameters"),
            (("--force", "train", "--if-changed"), "with that run's parameters"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, graft: Graft, airflow: Airflow, arguments: tuple[str, ...], match: str
    ) -> None:
        ran = graft("run", "tiles", *arguments)
        assert ran.code == ExitCode.USAGE
        assert re.search(match, " ".join(ran.stderr.split()))
        assert airflow.cleared == []

    @pytest.mark.parametrize(
        ("runs", "created", "match"),
        [
            ([], "failed", "tiles has no run"),
            ([{"dag_run_id": RUN, "state": "running"}], "failed", "is running: wait until it has ended"),
            ([{"dag_run_id": RUN, "state": "success"}], "success", "has deployed a version"),
        ],
    )
    def test_a_run_that_is_at_work_or_has_deployed_is_left_alone(
        self, graft: Graft, airflow: Airflow, runs: list[dict[str, str]], created: str, match: str
    ) -> None:
        airflow.runs, airflow.tasks = runs, [[task("create_version", created)]]
        ran = graft("run", "tiles", "--force", "gate")
        assert ran.code == ExitCode.USAGE
        assert match in " ".join(ran.stderr.split())
        assert airflow.cleared == []

    def test_steps_after_the_deployment_can_be_done_again(self, graft: Graft, airflow: Airflow) -> None:
        airflow.tasks = [[task("create_version", "success"), task("promote", "failed")]]
        assert graft("run", "tiles", "--force", "promote", "--no-wait").code == ExitCode.OK
        assert airflow.cleared[0]["task_ids"] == ["promote"]


class TestWatching:
    def silence(self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, answers: int) -> AirflowApi:
        """Return a client to which Airflow answers 503 so many times first."""
        route, statuses = airflow.route, [503] * answers
        monkeypatch.setattr(
            airflow,
            "route",
            lambda request: airflow.reply({}, statuses.pop()) if statuses else route(request),
        )
        status = stack_status(airflow_url=airflow.url, password="secret")
        monkeypatch.setattr("pipeline.stack.status", lambda settings: status)
        return AirflowApi(airflow.url, "admin", "secret", patience_seconds=0)

    def test_goes_on_when_airflow_answers_again(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        api = self.silence(airflow, monkeypatch, 5)
        result = module.watch_run(api, "tiles", RUN, Settings())
        assert result.summary is not None
        notes = capsys.readouterr().err
        assert notes.count(f"Airflow does not answer; run {RUN} goes on") == 1

    def test_ends_where_airflow_stays_silent_and_says_that_the_run_goes_on(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api = self.silence(airflow, monkeypatch, 1_000_000)
        monkeypatch.setattr(module, "SILENT_SECONDS", 0)
        with pytest.raises(StackError, match=rf"run {re.escape(RUN)} is no longer watched; it goes on"):
            module.watch_run(api, "tiles", RUN, Settings())

    def test_a_run_without_a_scheduler_is_not_watched_for_ever(
        self, graft: Graft, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "STOPPED_SECONDS", 0)
        airflow.states = ["running"]
        outcome = graft("run", "tiles", "--json")
        assert outcome.code == 1
        assert "airflow-scheduler" in outcome.stderr
        assert "`graft up` starts it again" in outcome.stderr

    def test_successful_run_prints_its_summary_and_seconds(self, graft: Graft, airflow: Airflow) -> None:
        airflow.states = ["queued", "running", "success"]
        airflow.tasks = [[], [task("fetch", "running", end_date=None)], [task("fetch", "success")]]
        outcome = graft("run", "tiles", "--param", "epochs=2", "--json")
        assert outcome.code == 0
        assert outcome.document == SUMMARY | {"seconds": {"fetch": 2.0}}
        assert airflow.confs == [{"logical_date": None, "conf": {"model.epochs": 2}}]
        assert "fetch           running" in outcome.stderr

    def test_text_tells_people_the_same(self, graft: Graft, airflow: Airflow) -> None:
        airflow.tasks = [[task("fetch", "success")]]
        text = graft("run", "tiles").stdout
        for part in (
            "brick",
            "0.9500 (95 % interval 0.9000 to 0.9900)",
            "accepted",
            "v_1",
            "2 forwarded",
            "2.0",
        ):
            assert part in text

    def test_text_ends_with_report_page_and_next_command(self, graft: Graft, airflow: Airflow) -> None:
        airflow.tasks = [[task("fetch", "success")]]
        assert graft("run", "tiles").stdout.splitlines()[-3:] == [
            f"  report     {airflow.url}/graft/runs/tiles/{QUOTED}",
            f"  page       {airflow.url}/graft/classifiers/tiles",
            "  next       graft predict tiles FILE...",
        ]

    @pytest.mark.parametrize(
        ("change", "command"),
        [
            ({"state": "refused", "version": None}, "graft open tiles"),
            ({"state": "superseded", "version": None}, "graft history tiles"),
            ({"state": "skipped", "evaluation": None, "version": None}, "graft dataset diff tiles"),
        ],
    )
    def test_next_command_fits_the_end_of_the_run(
        self, graft: Graft, airflow: Airflow, change: dict[str, Any], command: str
    ) -> None:
        uri = f"gs://graft/runs/tiles/{QUOTED}/summary.json"
        Storage.from_environment().write_json(uri, SUMMARY | change)
        lines = graft("run", "tiles").stdout.splitlines()
        assert lines[-1] == f"  next       {command}"
        assert any("report" in line for line in lines) == ("evaluation" not in change)

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            (
                {
                    "state": "refused",
                    "gate": {"accepted": False, "reasons": ["accuracy 0.4 < 0.8"]},
                    "version": None,
                },
                3,
            ),
            ({"state": "superseded", "version": None}, 3),
            (
                {
                    "state": "skipped",
                    "evaluation": None,
                    "gate": None,
                    "version": None,
                    "expect": {"outcome": "skip", "reasons": ["class_loss (skip): cat vanished"]},
                },
                3,
            ),
            ({"state": "rejected", "version": None}, 3),
            ({"state": "skipped", "skipped": True, "reason": "nothing new: `v_1` serves"}, 0),
            ({}, 0),
        ],
        ids=["refused", "superseded", "skipped", "rejected", "nothing new", "deployed"],
    )
    def test_exit_code_says_whether_a_version_was_deployed(
        self, graft: Graft, airflow: Airflow, change: dict[str, Any], code: int
    ) -> None:
        uri = f"gs://graft/runs/tiles/{QUOTED}/summary.json"
        Storage.from_environment().write_json(uri, SUMMARY | change)
        outcome = graft("run", "tiles")
        assert outcome.code == code
        assert change.get("reason", "") in outcome.stderr
        for said in (change.get("gate"), change.get("expect")):
            for reason in (said or {}).get("reasons", []):
                assert reason in outcome.stdout

    def test_run_with_nothing_new_says_skipped_and_what_the_champion_is(
        self, graft: Graft, airflow: Airflow
    ) -> None:
        uri = f"gs://graft/runs/tiles/{QUOTED}/summary.json"
        change = {"state": "skipped", "skipped": True, "reason": "nothing new: `v_1` serves"}
        Storage.from_environment().write_json(uri, SUMMARY | change)
        found = graft("run", "tiles", "--if-changed", "--json").document
        assert airflow.confs[-1]["conf"] == {"retrain.unchanged": "skip"}
        assert found.pop("seconds") == {}
        assert found == SUMMARY | {"state": "skipped", "skipped": True}

    def test_waiting_for_approval_is_shown_once_with_the_address(
        self, graft: Graft, airflow: Airflow
    ) -> None:
        uri = f"gs://graft/runs/tiles/{QUOTED}/summary.json"
        approval = {"approved": True, "by": "Ada", "reason": "", "at": "2026-01-01T00:00:00Z"}
        gate = {"accepted": True, "reasons": [], "approval": approval}
        Storage.from_environment().write_json(uri, SUMMARY | {"gate": gate})
        airflow.states = ["running", "running", "success"]
        airflow.tasks = [[task("approve", "awaiting_input")]]
        outcome = graft("run", "tiles")
        assert outcome.stderr.count(f"waiting for approval: {airflow.url}/dags/tiles/runs/{QUOTED}") == 1
        assert "approved   by Ada: no reason given" in outcome.stdout

    def test_the_state_of_a_run_is_read_when_no_task_is_at_work_and_its_tasks_once_more_at_the_end(
        self, graft: Graft, airflow: Airflow
    ) -> None:
        airflow.states = ["failed"]
        at_work = [[task("clean", state)] for state in ("scheduled", "queued", "running")]
        airflow.tasks = [*at_work, [task("clean", "success")], [task("clean", "failed")]]
        outcome = graft("run", "tiles", "--json")
        assert (outcome.code, outcome.document["state"]) == (1, "failed")
        assert outcome.document["error"].startswith("clean: ")
        assert len(airflow.tasks) == 1

    def test_failed_run_names_the_task_and_its_error(self, graft: Graft, airflow: Airflow) -> None:
        airflow.states = ["failed"]
        airflow.tasks = [[task("fetch", "success"), task("clean", "failed"), task("pack", "upstream_failed")]]
        airflow.log = [
            {"event": "starting", "level": "info"},
            {
                "event": "failed",
                "level": "error",
                "error_detail": [{"exc_type": "EmptyDataset", "exc_value": "one class only"}],
            },
            {"event": "done", "level": "info"},
        ]
        outcome = graft("run", "tiles", "--json")
        assert outcome.code == 1
        assert set(outcome.document) == set(SUMMARY) | {"seconds", "error"}
        assert outcome.document["state"] == "failed"
        assert outcome.document["error"] == "clean: EmptyDataset: one class only"
        assert outcome.document["seconds"] == {"fetch": 2.0, "clean": 2.0}
        text = graft("run", "tiles").stdout
        assert "one class only" in text
        assert "pack" not in text  # it did not run
        assert f"graft logs {RUN}" in text

    @pytest.mark.parametrize(
        ("name", "message", "shown"),
        [
            ("AirflowFailException", "ConfigError: no class", "ConfigError: no class"),
            ("AirflowException", "no connection", "no connection"),
            ("AirflowFailException", "", "AirflowFailException: "),
            ("AirflowTaskTimeout", "Timeout", "AirflowTaskTimeout: Timeout"),
        ],
    )
    def test_the_class_that_airflow_has_for_any_failure_is_left_out(
        self, graft: Graft, airflow: Airflow, name: str, message: str, shown: str
    ) -> None:
        airflow.states, airflow.tasks = ["failed"], [[task("clean", "failed")]]
        details = [{"exc_type": name, "exc_value": message}]
        airflow.log = [{"event": "failed", "level": "error", "error_detail": details}]
        assert graft("run", "tiles", "--json").document["error"] == f"clean: {shown}"

    def test_no_wait_returns_at_once(self, graft: Graft, airflow: Airflow) -> None:
        airflow.states = ["running"]
        outcome = graft("run", "tiles", "--no-wait", "--json")
        assert outcome.code == 0
        assert outcome.document == {"classifier": "tiles", "run_id": RUN, "state": "queued"}

    def test_interrupt_stops_watching_and_not_the_run(
        self, graft: Graft, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(AirflowApi, "run_state", interrupted)
        outcome = graft("run", "tiles")
        assert outcome.code == 1
        assert f"run {RUN} goes on" in outcome.stderr

    def test_summary_in_another_bucket_is_explained(self, graft: Graft, airflow: Airflow) -> None:
        Storage.from_environment().delete(f"gs://graft/runs/tiles/{QUOTED}/summary.json")
        outcome = graft("run", "tiles")
        assert outcome.code == 1
        assert "GRAFT_BUCKETS" in outcome.stderr


class TestSources:
    def test_a_run_without_its_pictures_is_not_started(
        self, graft: Graft, airflow: Airflow, classifier: Path, tmp_path: Path
    ) -> None:
        classifier.write_text(f"name: tiles\ndataset: {{source: {{type: folder, uri: {tmp_path}/no}}}}\n")
        outcome = graft("run", "tiles")
        assert outcome.code == 2
        assert f"tiles was not started: `dataset.source.uri`: there is no {tmp_path}/no" in outcome.stderr
        assert airflow.run_ids == []

    def test_the_place_that_a_parameter_names_counts(
        self, graft: Graft, airflow: Airflow, classifier: Path, tmp_path: Path
    ) -> None:
        classifier.write_text(f"name: tiles\ndataset: {{source: {{type: folder, uri: {tmp_path}}}}}\n")
        assert graft("run", "tiles", "--param", f"dataset.source.uri={tmp_path}/no").code == 2
        assert airflow.run_ids == []
        assert graft("run", "tiles").code == 0


class TestNewClassifier:
    def test_unknown_dag_asks_for_one_parse_and_waits(self, graft: Graft, airflow: Airflow) -> None:
        airflow.parsed = ["", "", "stale", "2100-01-01T00:00:00Z"]
        assert graft("run", "tiles").code == 0
        assert airflow.parse_requests == ["other/token"]

    def test_first_classifier_of_all_is_waited_for(self, graft: Graft, airflow: Airflow) -> None:
        airflow.parsed = ["", "2100-01-01T00:00:00Z"]
        airflow.dags = airflow.dags[:1]
        assert graft("run", "tiles").code == 0
        assert airflow.parse_requests == []

    def test_dag_older_than_its_yaml_is_read_again(
        self, graft: Graft, airflow: Airflow, classifier: Path
    ) -> None:
        os.utime(classifier, (4e9, 4e9))
        airflow.parsed = ["2090-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]
        airflow.dags.append({"dag_id": "tiles", "bundle_name": "classifiers", "file_token": "tiles"})
        assert graft("run", "tiles").code == 0
        assert airflow.parse_requests == ["tiles"]

    def test_a_file_that_somebody_else_asked_for_is_waited_for(
        self, graft: Graft, airflow: Airflow, classifier: Path
    ) -> None:
        os.utime(classifier, (4e9, 4e9))
        airflow.parsed = ["2090-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]
        airflow.parse_status = 409
        assert graft("run", "tiles").code == 0
        assert airflow.parse_requests == ["other/token"]

    def test_known_dag_is_not_read_again(self, graft: Graft, airflow: Airflow) -> None:
        graft("run", "tiles")
        assert airflow.parse_requests == []

    def test_waiting_ends_with_the_import_error(
        self, graft: Graft, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PARSE_SECONDS", 0)
        airflow.parsed = [""]
        airflow.import_errors = [
            {"filename": "/x/tiles.yaml", "stack_trace": "ConfigError: `datset`"},
            {"filename": "/x/other.yaml", "stack_trace": "not mine"},
        ]
        outcome = graft("run", "tiles")
        assert outcome.code == 1
        assert "ConfigError: `datset`" in outcome.stderr
        assert "not mine" not in outcome.stderr

    def test_an_error_of_the_file_as_it_is_now_is_told_at_once(self, graft: Graft, airflow: Airflow) -> None:
        airflow.parsed = [""]
        now = datetime.now(UTC).isoformat()
        airflow.import_errors = [
            {"filename": "tiles.yaml.py", "stack_trace": "ConfigError: `datset`", "timestamp": now}
        ]
        outcome = graft("run", "tiles")  # it would take three minutes else
        assert outcome.code == 1
        assert "cannot make a DAG of tiles" in outcome.stderr
        assert "ConfigError: `datset`" in outcome.stderr

    def test_an_error_of_another_file_or_of_before_is_not_told(self, graft: Graft, airflow: Airflow) -> None:
        airflow.parsed = ["", "2100-01-01T00:00:00Z"]
        then, now = "2020-01-01T00:00:00Z", datetime.now(UTC).isoformat()
        airflow.import_errors = [
            {"filename": "tiles.yaml.py", "stack_trace": "old", "timestamp": then},
            {"filename": "small_tiles.yaml.py", "stack_trace": "tiles", "timestamp": now},
        ]
        assert graft("run", "tiles").code == 0

    def test_waiting_without_import_error_suggests_the_directories(
        self, graft: Graft, airflow: Airflow, classifier: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PARSE_SECONDS", 0)
        airflow.parsed = [""]
        outcome = graft("run", "tiles")
        assert outcome.code == 1
        assert str(classifier.parent) in outcome.stderr


class TestApi:
    def test_expired_token_is_exchanged_once(self, airflow: Airflow) -> None:
        api = AirflowApi(airflow.url, "admin", "secret")
        assert api.run_state("tiles", RUN) == "success"
        api._session.headers["Authorization"] = "Bearer expired"
        assert api.run_state("tiles", RUN) == "success"
        assert airflow.logins == 2

    def test_refusal_carries_airflows_words(self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
        refuse = lambda request: airflow.reply({"detail": "epochs is not an integer"}, 400)  # noqa: E731
        monkeypatch.setattr(airflow, "route", refuse)
        with pytest.raises(StackError, match="400 epochs is not an integer") as caught:
            AirflowApi(airflow.url, "admin", "secret").trigger("tiles", {})
        assert caught.value.status == 400

    def test_silent_airflow_is_a_stack_error(self) -> None:
        with pytest.raises(StackError, match=r"Airflow at http://127\.0\.0\.1:1 does not answer"):
            AirflowApi("http://127.0.0.1:1", "admin", "secret", patience_seconds=0).import_errors()

    def test_a_request_that_used_up_its_time_is_made_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, waited = FakeClock(), []

        def time_out(*arguments: object, **options: object) -> None:
            waited.append(options["timeout"])
            clock.sleep(60)
            raise requests.ReadTimeout("Read timed out. (read timeout=60)")

        api = AirflowApi("http://a", "u", "p", patience_seconds=PATIENCE_SECONDS, clock=clock)
        monkeypatch.setattr(api._session, "request", time_out)
        with pytest.raises(StackError, match="Read timed out"):
            api.import_errors()
        assert waited == [60, 60, 60]

    def test_one_slow_or_lost_answer_is_asked_for_again(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock, route, statuses = FakeClock(), airflow.route, [503, 502]

        def stumble(request: Request) -> Response:
            return airflow.reply({}, statuses.pop()) if statuses else route(request)

        monkeypatch.setattr(airflow, "route", stumble)
        api = AirflowApi(airflow.url, "admin", "secret", clock=clock)
        assert api.run_state("tiles", RUN) == "success"
        assert clock.sleeps == [0.5, 1]

    def test_a_run_whose_start_was_answered_too_late_is_not_started_twice(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def lose_the_first_answer(request: Request) -> Response:
            asked.append(request.json["dag_run_id"])
            return airflow.reply({"detail": "exists"}, 409) if len(asked) > 1 else airflow.reply({}, 503)

        monkeypatch.setattr(airflow, "route", lose_the_first_answer)
        run_id = AirflowApi(airflow.url, "admin", "secret", clock=FakeClock()).trigger("tiles", {})
        assert asked == [run_id, run_id]

    def test_task_instances_are_read_page_by_page(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        everything = [task("pack", "success", map_index=number) for number in range(230)]

        def page(request: Request) -> Response:
            start = int(request.args["offset"])
            entries = everything[start : start + int(request.args["limit"])]
            return airflow.reply({"task_instances": entries, "total_entries": len(everything)})

        monkeypatch.setattr(airflow, "route", page)
        instances = AirflowApi(airflow.url, "admin", "secret").task_instances("tiles", RUN)
        assert instances == [TaskInstance.from_dict(each) for each in everything]


def test_exit_code_of_a_failed_run_is_one() -> None:
    assert RunResult(classifier="tiles", run_id=RUN).exit_code is ExitCode.ERROR
