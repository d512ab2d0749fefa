"""The whole way on separate processes: engine, api-server, scheduler, dag-processor, triggerer."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import google.auth.credentials
import numpy as np
import psutil
import pytest
from googleapiclient import discovery
from PIL import Image

from pipeline.airflow_api import ImportFailure
from pipeline.artifacts.workspace import Workspace
from pipeline.cli.demo import pick_test_pictures
from tests.e2e.conftest import Stack, wait_until

LABELS = ["brick", "grass", "gravel"]
STAGES = [
    *("fetch", "clean", "pack", "train", "evaluate", "gate"),
    *("create_version", "smoke_test", "promote", "publish"),
]


class StaticToken(google.auth.credentials.Credentials):
    """As in the README."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def refresh(self, request: Any) -> None:
        pass

    expired = property(lambda self: False)
    valid = property(lambda self: True)


class TestDemo:
    def test_demo_ends_with_the_whole_story(self, stack: Stack) -> None:
        text = stack.demo[0].stdout
        accuracy = re.search(r"accuracy\s+([\d.]+) \(95 % interval ([\d.]+) to ([\d.]+)\)", text)
        assert accuracy is not None
        assert float(accuracy[1]) >= 0.95
        assert re.search(r"gate\s+accepted", text)
        assert re.search(r"version\s+v_[0-9a-f]{12}", text)
        for stage in STAGES:
            assert re.search(rf"^  {stage}\s+[\d.]+$", text, re.M), stage
        for label in LABELS:
            assert re.search(rf"^  {label}\s+{label}\s+[\d.]+$", text, re.M), f"prediction of {label}"
        assert "make down" in text

    def test_progress_goes_to_stderr(self, stack: Stack) -> None:
        assert re.search(r"^  train\s+deferred", stack.demo[0].stderr, re.M)

    def test_five_processes_run_apart(self, stack: Stack) -> None:
        status = stack.graft_json("status")
        assert status["state"] == "running"
        pids = {process["pid"] for process in status["processes"]}
        assert len(pids) == 5
        assert all(psutil.pid_exists(pid) for pid in pids)

    def test_every_port_is_loopback(self, stack: Stack) -> None:
        ours = {process.pid for process in stack.processes()}
        listening = [
            connection.laddr.ip
            for connection in psutil.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN and connection.pid in ours
        ]
        assert len(listening) >= 2
        assert set(listening) == {"127.0.0.1"}

    def test_every_secret_file_is_private(self, stack: Stack) -> None:
        for name in ("secrets.json", "stack.json", "engine/tokens.json", "airflow/passwords.json"):
            assert (stack.home / name).stat().st_mode & 0o077 == 0, name

    def test_no_log_shows_a_secret(self, stack: Stack) -> None:
        status = stack.graft_json("status")
        for secret in (status["engine"]["token"], status["airflow"]["password"]):
            for path in [
                *(stack.home / "logs").rglob("*"),
                *(stack.home / "airflow" / "logs").rglob("*.log"),
            ]:
                if path.is_file():
                    assert secret not in path.read_text(errors="replace"), path


class TestServedModel:
    def test_stock_client_with_the_articles_code_predicts_pictures_of_any_size(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        engine = stack.graft_json("status")["engine"]
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        with discovery.build(
            "ml",
            "v1",
            credentials=StaticToken(engine["token"]),
            client_options={"api_endpoint": engine["url"]},
            static_discovery=True,
        ) as ml:
            for size in ((299, 299), (3000, 2000)):
                path = tmp_path / "picture.jpg"
                Image.fromarray(pixels).resize(size).save(path)
                picture = base64.urlsafe_b64encode(path.read_bytes()).decode()
                body = {"instances": [{"inputs": picture}]}
                answer = ml.projects().predict(name="projects/local/models/surfaces", body=body).execute()
                assert list(answer) == ["predictions"]
                (prediction,) = answer["predictions"]
                assert list(prediction) == ["outputs"]
                assert len(prediction["outputs"]) == len(LABELS)
                assert sum(prediction["outputs"]) == pytest.approx(1, abs=1e-4)

    def test_versions_say_what_each_was_made_from(self, stack: Stack) -> None:
        versions = stack.graft_json("versions", "surfaces")
        assert [version["is_default"] for version in versions].count(True) == 1
        for version in versions:
            assert version["state"] == "READY"
            assert version["accuracy"] >= 0.95
            assert version["run_id"]
            assert version["dataset_version"].startswith("d_")

    def test_predict_answers_in_the_order_of_the_files(self, stack: Stack, tmp_path: Path) -> None:
        (version,) = {row["dataset_version"] for row in stack.graft_json("versions", "surfaces")}
        pictures = pick_test_pictures(Workspace(stack.storage, "gs://graft"), "surfaces", version)
        assert sorted(pictures) == LABELS
        files = []
        for label, data in reversed(pictures.items()):
            files.append(tmp_path / label)
            files[-1].write_bytes(data)
        answers = stack.graft_json("predict", "surfaces", *map(str, files))
        assert [answer["file"] for answer in answers] == [str(path) for path in files]
        assert [answer["label"] for answer in answers] == LABELS[::-1]
        for answer in answers:
            assert answer["score"] == max(answer["outputs"]) > 0.5


class TestProvenance:
    def test_the_demos_version_is_traced_and_comes_out_again(self, stack: Stack) -> None:
        lineage = stack.graft_json("lineage", "surfaces")
        assert lineage["gate"]["decided_by"] == "gate"
        assert lineage["dataset"]["splits"].keys() == {"train", "test"}
        for part in ("weights", "package", "requirements"):
            assert re.fullmatch("[0-9a-f]{64}", lineage[part]["sha256"]), part
        again = stack.graft_json("reproduce", "surfaces", lineage["version"])
        assert again["agrees"] is True
        assert again["reproduced"] == again["recorded"]
        assert again["recorded"]["accuracy"] == lineage["evaluation"]["accuracy"]


class TestSecondRun:
    def test_up_changes_nothing(self, stack: Stack) -> None:
        before = stack.graft_json("status")
        assert stack.graft_json("up") == before

    def test_asked_for_port_in_use_is_an_error_and_harms_nothing(self, stack: Stack) -> None:
        before = stack.graft_json("status")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            error = stack.graft_json("up", "--engine-port", str(port), code=1)["error"]
        assert error["type"] == "StackError"
        assert f"Port {port} for engine is in use" in error["message"]
        assert stack.graft_json("status") == before

    def test_engine_killed_during_training_picks_its_job_up_again(self, stack: Stack) -> None:
        """Also the second run on unchanged pictures: nothing is done twice."""
        done = {job["jobId"] for job in stack.engine_get("jobs")["jobs"]}

        def running() -> str | None:
            jobs = stack.engine_get("jobs")["jobs"]
            new = [job for job in jobs if job["jobId"] not in done and job["state"] == "RUNNING"]
            return new[0]["jobId"] if new else None

        with stack.start_graft("run", "surfaces", "--param", "model.seed=1", "--json") as run:
            job_id = wait_until(running, seconds=120, what="running job")
            (engine,) = [row for row in stack.graft_json("status")["processes"] if row["name"] == "engine"]
            psutil.Process(engine["pid"]).send_signal(signal.SIGKILL)
            assert stack.graft_json("up")["state"] == "running"
            stdout, _ = run.communicate(timeout=300)
        result = json.loads(stdout)
        assert run.returncode == 0, result
        assert stack.engine_get(f"jobs/{job_id}")["state"] == "SUCCEEDED"
        self.check_shape(result)
        pictures, tested = result["dataset"]["pictures"], result["evaluation"]["test_pictures"]
        assert result["work"] == {"downloaded": 0, "decoded": 0, "forwarded": 0, "cached": pictures - tested}
        versions = {row["dataset_version"] for row in stack.graft_json("versions", "surfaces")}
        assert versions == {result["dataset"]["version"]}
        job = stack.engine_get(f"jobs/{result['evaluation']['job']}")
        assert int(job["predictionOutput"]["predictionCount"]) == tested

    @staticmethod
    def check_shape(result: dict[str, Any]) -> None:
        assert list(result) == [
            *("classifier", "run_id", "state", "dataset", "work", "evaluation", "gate", "version", "seconds")
        ]
        assert set(result["dataset"]) == {"version", "pictures", "classes"}
        assert set(result["evaluation"]) == {"accuracy", "accuracy_ci95", "loss", "test_pictures", "job"}
        assert set(result["gate"]) == {"accepted", "reasons"}
        assert list(result["seconds"]) == STAGES


class TestClassifiersAddedLater:
    def test_gate_refuses_shuffled_labels_and_leaves_no_version(self, stack: Stack, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        for number in range(60):
            label = ("heads", "tails")[random.integers(2)]
            (tmp_path / label).mkdir(exist_ok=True)
            noise = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{number}.png")
        write_classifier(stack, "coin", f"{{type: folder, uri: {tmp_path}}}", "gate: {min_accuracy: 0.95}")
        result = stack.graft_json("run", "coin", code=3)
        assert result["state"] == "refused"
        assert result["gate"]["accepted"] is False
        assert "accuracy" in result["gate"]["reasons"][0]
        assert result["version"] is None
        assert list(result["seconds"]) == STAGES[:6]
        assert stack.graft_json("versions", "coin") == []
        states = {
            task.task_id: task.state for task in stack.airflow().task_instances("coin", result["run_id"])
        }
        assert stack.airflow().run_state("coin", result["run_id"]) == "success"
        assert {states[stage] for stage in STAGES[6:]} == {"skipped"}

    def test_broken_yaml_is_its_own_import_error_and_harms_no_other(self, stack: Stack) -> None:
        before = broken_checks(stack)  # other tests of this stack may have left some
        write_classifier(stack, "broken", "{type: sample}", "gates: {min_accuracy: 0.5}")
        api = stack.airflow()

        def reported() -> list[ImportFailure]:
            return [error for error in api.import_errors() if "broken.yaml" in error.filename]

        (error,) = wait_until(reported, seconds=60, what="import error")
        assert "unknown key `gates`; remove it or correct its spelling" in error.stack_trace
        assert api.last_parsed("broken") is None
        assert api.last_parsed("surfaces") is not None
        refused = stack.graft("run", "broken")
        assert refused.returncode == 1
        assert "broken.yaml" in refused.stderr
        assert stack.graft("doctor").returncode == 1
        assert broken_checks(stack) - before == {"classifier broken.yaml"}

    def test_unknown_parameter_is_refused_before_anything_starts(self, stack: Stack) -> None:
        refused = stack.graft("run", "surfaces", "--param", "model.epoch=1")
        assert refused.returncode == 2
        assert "known: " in refused.stderr


def broken_checks(stack: Stack) -> set[str]:
    findings = json.loads(stack.graft("doctor", "--json").stdout)["findings"]
    return {finding["check"] for finding in findings if finding["state"] == "broken"}


def write_classifier(stack: Stack, name: str, source: str, *lines: str) -> None:
    text = "\n".join([f"name: {name}", f"dataset: {{source: {source}}}", *lines])
    (stack.classifiers / f"{name}.yaml").write_text(text + "\n")
