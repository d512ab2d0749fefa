from __future__ import annotations

import importlib.metadata
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

import pipeline.stack
from pipeline import airflow_api
from pipeline.airflow_api import ImportFailure
from pipeline.artifacts.dataset import DatasetInfo, SplitSettings, write_info, write_latest
from pipeline.cli.connection import open_workspace
from pipeline.config import SHIPPED_CLASSIFIERS
from pipeline.ml_v1 import DAMAGED_FILES
from pipeline.stack.status import ProcessState
from tests.fakes.s3 import running_s3, use_keys
from tests.fakes.stack import stack_status

Graft = Callable[..., Any]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolve_local(host: str, *rest: Any, **options: Any) -> list[Any]:
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(f"{host} is unknown")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_local)


@pytest.fixture
def findings(graft: Graft) -> Callable[[], dict[str, dict[str, str]]]:
    def examine() -> dict[str, dict[str, str]]:
        outcome = graft("doctor", "--json")
        found = {finding["check"]: finding for finding in outcome.document["findings"]}
        broken = any(finding["state"] == "broken" for finding in found.values())
        assert outcome.code == (1 if broken else 0)
        assert outcome.document["ok"] is not broken
        return found

    return examine


Findings = Callable[[], dict[str, dict[str, str]]]


def test_healthy_installation_has_nothing_broken(findings: Findings, home: Path) -> None:
    found = findings()
    assert {finding["state"] for finding in found.values()} <= {"ok", "note"}
    assert found["stack"]["state"] == "note"
    for path in SHIPPED_CLASSIFIERS.glob("*.yaml"):
        assert found[f"classifier {path.name}"]["state"] == "ok"


def test_a_missing_folder_is_broken_and_an_unknown_host_a_note(
    findings: Findings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path))
    source = "name: {name}\ndataset: {{source: {{type: archive, uri: {uri}}}}}\n"
    (tmp_path / "a.yaml").write_text(source.format(name="a", uri=tmp_path / "no.zip"))
    (tmp_path / "b.yaml").write_text(source.format(name="b", uri="https://pictures.example/b.zip"))
    found = findings()
    assert found["source of a"]["state"] == "broken"
    assert f"there is no {tmp_path / 'no.zip'}" in found["source of a"]["detail"]
    assert found["source of b"]["state"] == "note"


def test_examination_leaves_nothing_behind(findings: Findings, home: Path) -> None:
    findings()
    assert not home.exists()


def test_text_marks_what_is_broken(graft: Graft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: [")
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path))
    outcome = graft("doctor")
    assert outcome.code == 1
    assert [line for line in outcome.stdout.splitlines() if line.startswith("BROKEN  classifier bad.yaml")]


class TestClassifiers:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path / "yaml"))
        (tmp_path / "yaml").mkdir()
        return tmp_path / "yaml"

    def test_broken_yaml_names_file_key_and_fix(self, findings: Findings, folder: Path) -> None:
        (folder / "a.yaml").write_text("name: a\ndataset: {source: {type: sample}}\ngates: {}\n")
        (folder / "b.yaml").write_text("name: b\ndataset: {source: {type: sample}}\n")
        found = findings()
        assert found["classifier a.yaml"]["state"] == "broken"
        detail = found["classifier a.yaml"]["detail"]
        assert str(folder / "a.yaml") in detail
        assert "unknown key `gates`; remove it or correct its spelling" in detail
        assert found["classifier b.yaml"]["state"] == "ok"

    @pytest.mark.parametrize(
        ("section", "said"),
        [("model: {backbone: vgg}", "vgg"), ("gate: {slices: [{by: mood, min: 0.5}]}", "no column `mood`")],
    )
    def test_what_airflow_would_refuse_is_broken(
        self, findings: Findings, folder: Path, section: str, said: str
    ) -> None:
        (folder / "a.yaml").write_text(f"name: a\ndataset: {{source: {{type: sample}}}}\n{section}\n")
        found = findings()["classifier a.yaml"]
        assert found["state"] == "broken"
        assert str(folder / "a.yaml") in found["detail"]
        assert said in found["detail"]

    @pytest.mark.parametrize(
        ("gate", "problems"),
        [
            ("min_accuracy: 0.5", []),
            (
                "min_test_pictures: 99",
                ["no model can pass: min_test_pictures: 8 test pictures, the limit is 99"],
            ),
            (
                "min_accuracy: 0.5, first_version: refuse",
                ["no model can pass: first_version: this gate takes no first version from a run"],
            ),
        ],
    )
    def test_what_the_test_pictures_can_show_is_told(
        self, graft: Graft, home: Path, folder: Path, gate: str, problems: list[str]
    ) -> None:
        (folder / "a.yaml").write_text(f"name: a\ndataset: {{source: {{type: sample}}}}\ngate: {{{gate}}}\n")
        info = DatasetInfo(
            dataset="a",
            version="d_1",
            classes=("cat", "dog"),
            pictures={"cat": 20, "dog": 20},
            train={"cat": 16, "dog": 16},
            test={"cat": 4, "dog": 4},
            rejected={},
            source={"type": "sample"},
            split=SplitSettings(method="hash", test_fraction=0.2, seed=0),
            run_id="manual__1",
            created_at="2026-01-01T00:00:00Z",
        )
        dataset = open_workspace().dataset("a")
        write_info(info, dataset.version(info.version))
        write_latest(dataset, info.version)
        found = [
            each for each in graft("doctor", "--json").document["findings"] if each["check"] == "gate of a"
        ]
        assert [each["detail"] for each in found if each["state"] == "broken"] == problems
        assert [each["detail"].partition(" that")[0] for each in found if each["state"] == "note"] == [
            "8 test pictures: the smallest margin of `non_inferiority`"
        ]

    def test_of_a_classifier_without_pictures_nothing_is_told_about_its_gate(
        self, findings: Findings, folder: Path
    ) -> None:
        (folder / "a.yaml").write_text("name: a\ndataset: {source: {type: sample}}\n")
        assert "gate of a" not in findings()

    def test_name_that_is_taken_is_broken(self, findings: Findings, folder: Path) -> None:
        for name in ("a.yaml", "b.yaml"):
            (folder / name).write_text("name: a\ndataset: {source: {type: sample}}\n")
        found = findings()
        assert found["classifier a.yaml"]["state"] == "ok"
        assert "is taken by" in found["classifier b.yaml"]["detail"]

    def test_missing_directory_is_broken(self, findings: Findings, folder: Path) -> None:
        folder.rmdir()
        assert str(folder) in findings()["classifiers"]["detail"]


class TestMachine:
    def test_missing_package_names_the_command(
        self, findings: Findings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version = importlib.metadata.version

        def lost(name: str) -> str:
            if name == "keras":
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name) if name != "tensorflow" else "1.0"

        monkeypatch.setattr(importlib.metadata, "version", lost)
        detail = findings()["packages"]["detail"]
        assert "keras is missing" in detail
        assert "tensorflow is 1.0, not ==2.21.0" in detail
        assert "make setup" in detail

    def test_other_python_is_broken(self, findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 12, 1))
        assert "3.11 is needed" in findings()["python"]["detail"]

    def test_full_disk_is_broken(self, findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
        assert findings()["disk"]["state"] == "broken"

    def test_bucket_that_is_a_file_is_broken(
        self, findings: Findings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("GRAFT_BUCKETS", f"demo={tmp_path}/file")
        found = findings()
        assert "GRAFT_BUCKETS" in found["bucket gs://demo"]["detail"]
        assert found["bucket gs://graft"]["state"] == "ok"

    @pytest.mark.parametrize(("knows", "state"), [(True, "ok"), (False, "broken")])
    def test_a_store_must_create_an_object_once(
        self, findings: Findings, monkeypatch: pytest.MonkeyPatch, knows: bool, state: str
    ) -> None:
        use_keys(monkeypatch)
        with running_s3() as server:
            server.knows_conditions = knows
            place = f"s3://company?endpoint={server.url('')}"
            monkeypatch.setenv("GRAFT_BUCKETS", f"graft={place},pictures={place}")
            found = findings()
            assert server.objects == {}
            server.refusal = 403, "SignatureDoesNotMatch"
            refused = findings()
        assert found["bucket gs://graft"]["state"] == state
        assert found["bucket gs://graft"]["detail"].startswith(place.rstrip("/"))
        assert found["bucket gs://pictures"]["state"] == "ok"
        for name in ("graft", "pictures"):
            assert "Correct AWS_ACCESS_KEY_ID" in refused[f"bucket gs://{name}"]["detail"]

    def test_setting_that_cannot_be_read_stops_no_other_check(
        self, findings: Findings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRAFT_BUCKETS", "nonsense")
        found = findings()
        assert "GRAFT_BUCKETS wants" in found["buckets"]["detail"]
        assert "stack" in found


class TestRunningStack:
    @pytest.fixture
    def run_stack(self, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        def run(**parts: Any) -> None:
            url = httpserver.url_for("").rstrip("/")
            status = stack_status(engine_url=url, airflow_url=url, **parts)
            monkeypatch.setattr(pipeline.stack, "status", lambda settings: status)
            httpserver.expect_request("/v1/projects/local/models").respond_with_json({})

        return run

    def test_answers_and_import_errors_are_shown(
        self,
        findings: Findings,
        run_stack: Callable[..., None],
        httpserver: HTTPServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run_stack()
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        httpserver.expect_request("/api/v2/monitor/health").respond_with_json({})
        errors = [ImportFailure(filename="x.yaml", stack_trace="Traceback\nConfigError: bad key\n")]
        monkeypatch.setattr(airflow_api.AirflowApi, "import_errors", lambda self: errors)
        found = findings()
        assert found["engine"]["state"] == found["airflow"]["state"] == "ok"
        assert found["Airflow import"]["detail"] == "x.yaml: ConfigError: bad key"

    def test_models_that_the_engine_has_lost_are_named_with_the_remedy(
        self, findings: Findings, run_stack: Callable[..., None], httpserver: HTTPServer, home: Path
    ) -> None:
        run_stack()
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        httpserver.expect_request("/api/v2/monitor/health").respond_with_data("", status=500)
        version = home / "buckets" / "graft" / "models" / "cats" / "v1"
        version.mkdir(parents=True)
        (version / "saved_model.pb").touch()
        lost = findings()["engine database"]
        assert lost["state"] == "broken"
        assert "cats (1 versions). `graft engine rebuild`" in lost["detail"]

    def test_a_damaged_version_is_named_with_its_file(
        self, findings: Findings, run_stack: Callable[..., None], httpserver: HTTPServer
    ) -> None:
        run_stack()
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        httpserver.expect_request("/api/v2/monitor/health").respond_with_data("", status=500)
        model = "projects/local/models/cats"
        httpserver.clear()
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        httpserver.expect_request("/v1/projects/local/models").respond_with_json(
            {"models": [{"name": model}]}
        )
        message = f"{DAMAGED_FILES} in gs://graft/models/cats/v1/: saved_model.pb changed."
        versions = [
            {"name": f"{model}/versions/v1", "state": "FAILED", "errorMessage": message},
            {"name": f"{model}/versions/v2", "state": "FAILED", "errorMessage": "Failed to load model."},
            {"name": f"{model}/versions/v3", "state": "READY"},
        ]
        httpserver.expect_request(f"/v1/{model}/versions").respond_with_json({"versions": versions})
        found = findings()
        assert found["model cats"]["state"] == "broken"
        assert found["model cats"]["detail"] == f"v1 is not served. {message}"

    def test_a_mistake_that_a_yaml_check_names_is_not_repeated(
        self,
        findings: Findings,
        run_stack: Callable[..., None],
        httpserver: HTTPServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        run_stack()
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        httpserver.expect_request("/api/v2/monitor/health").respond_with_json({})
        (tmp_path / "bad.yaml").write_text("name: [")
        monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path))
        trace = f"Traceback\nConfigError: {tmp_path}/bad.yaml: no YAML"
        errors = [ImportFailure(filename="bad.yaml.py", stack_trace=trace)]
        monkeypatch.setattr(airflow_api.AirflowApi, "import_errors", lambda self: errors)
        found = findings()
        assert found["classifier bad.yaml"]["state"] == "broken"
        assert "Airflow import" not in found

    def test_dead_process_and_silent_engine_are_broken(
        self, findings: Findings, run_stack: Callable[..., None], httpserver: HTTPServer
    ) -> None:
        run_stack(engine_state=ProcessState.STOPPED)
        httpserver.expect_request("/healthz").respond_with_data("", status=500)
        httpserver.expect_request("/api/v2/monitor/health").respond_with_data("", status=500)
        found = findings()
        assert "not running: engine" in found["stack"]["detail"]
        assert found["engine"]["state"] == found["airflow"]["state"] == "broken"


def test_no_sandbox_is_a_note_and_a_required_one_that_is_missing_is_broken(
    findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engine.sandbox.sandbox.landlock_abi", lambda: 7)
    assert findings()["sandbox"]["state"] == "ok"
    monkeypatch.setattr("pipeline.engine.sandbox.sandbox.landlock_abi", lambda: 0)
    assert findings()["sandbox"] == {
        "check": "sandbox",
        "state": "note",
        "detail": "none, no Landlock here: jobs and models may do what this user may",
    }
    monkeypatch.setenv("GRAFT_ENGINE_SANDBOX", "required")
    assert findings()["sandbox"]["state"] == "broken"
