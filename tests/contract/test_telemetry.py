"""What an operator of the engine sees: health, readiness, metrics, and a log with request ids."""

from __future__ import annotations

import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.telemetry.log import JsonFormatter
from tests.contract.conftest import V1Client
from tests.fakes.clock import wait_for
from tests.fakes.databases import IS_POSTGRES
from tests.fakes.engine import FakeParts

ROLE = {"role": "leader"} if IS_POSTGRES else {}  # of an engine that may share its database
BODY = {"instances": ["x"]}


def metrics(v1: V1Client) -> dict[str, float]:
    """Every sample by its name and labels, as `name{label=value,...}`, the labels sorted."""
    found = {}
    for family in text_string_to_metric_families(v1.http.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@pytest.fixture
def deployed(v1: V1Client, parts: FakeParts) -> V1Client:
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://graft/e"))
    return v1


def test_predictions_are_counted_by_version_and_code(deployed: V1Client) -> None:
    for _ in range(3):
        deployed("POST", "models/m:predict", BODY)
    deployed("POST", "models/m:predict", {"no": "instances"}, code=400)
    found = metrics(deployed)
    assert found["graft_predictions_total{code=200,model=m,version=v1}"] == 3
    assert found["graft_predictions_total{code=400,model=m,version=v1}"] == 1
    assert found["graft_prediction_seconds_count{model=m,version=v1}"] == 4
    assert found["graft_predictions_in_flight{model=m,version=v1}"] == 0
    assert found["graft_version_loaded{model=m,runtime=,version=v1}"] == 1
    assert found["graft_http_requests_total{code=400,method=POST}"] == 1


def test_the_sizes_of_batches_are_those_the_worker_reports(deployed: V1Client, parts: FakeParts) -> None:
    worker = parts.pool.loaded[0]
    ask = worker.ask

    async def ask_with_batches(request):
        return (await ask(request)).with_batches([1, 5])

    worker.ask = ask_with_batches
    deployed("POST", "models/m:predict", BODY)
    found = metrics(deployed)
    assert found["graft_batch_pictures_sum{model=m,version=v1}"] == 6
    assert found["graft_batch_pictures_bucket{le=1.0,model=m,version=v1}"] == 1
    assert found["graft_batch_pictures_bucket{le=8.0,model=m,version=v1}"] == 2


def test_a_version_that_is_gone_leaves_the_metrics(deployed: V1Client) -> None:
    deployed("POST", "models/m:predict", BODY)
    deployed.wait_done(deployed("DELETE", "models/m/versions/v1"))
    assert not [name for name in metrics(deployed) if "version=v1" in name]


def test_jobs_are_counted_by_kind_and_state(v1: V1Client, parts: FakeParts) -> None:
    value = {
        "packageUris": ["gs://graft/p.tar.gz"],
        "pythonModule": "m.task",
        "region": "r",
        "runtimeVersion": "2.21",
    }
    v1("POST", "jobs", {"jobId": "one", "trainingInput": value})
    v1.wait_state("one", "RUNNING")
    found = {name: count for name, count in metrics(v1).items() if name.startswith("graft_jobs")}
    assert list(found.values()) == [1]
    assert "state=RUNNING" in next(iter(found))


def test_readiness_waits_for_default_versions_that_are_being_loaded(deployed, restart, parts) -> None:
    assert deployed.http.get("/readyz").json() == {"status": "ready", **ROLE}
    is_open = False
    parts.pool.gate = lambda name: is_open
    again = restart()
    answer = again.http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "loading", "loading": ["m/v1"], **ROLE})
    is_open = True
    assert wait_for(lambda: again.http.get("/readyz").status_code == 200)


@pytest.mark.parametrize(("given", "is_kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False)])
def test_every_answer_carries_a_request_id(v1: V1Client, given: str, is_kept: bool) -> None:
    answer = v1.http.get("/v1/projects/p/models/none", headers={"X-Request-Id": given})
    assert answer.status_code == 404
    assert (answer.headers["x-request-id"] == given) == is_kept
    assert answer.headers["x-request-id"]


def test_the_log_is_json_and_names_the_request(v1: V1Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(JsonFormatter())
    with caplog.at_level(logging.INFO, logger="graft.access"):
        v1.http.get("/v1/projects/p/models?pageToken=secret", headers={"X-Request-Id": "mine"})
    line = json.loads(caplog.text.strip().splitlines()[-1])
    assert line.pop("ms") >= 0
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "graft.access",
        "message": "request",
        "request_id": "mine",
        "method": "GET",
        "path": "/v1/projects/p/models",
        "status": 400,
    }


class TestRequestLogging:
    """`requestLoggingConfig`: JSON lines in the bucket instead of rows in BigQuery."""

    @staticmethod
    def rows(parts: FakeParts) -> list[dict]:
        uris = parts.storage.list_uris("gs://graft/request_logs/p.d.t/m/v1/")
        return [json.loads(line) for uri in uris for line in parts.storage.read_bytes(uri).splitlines()]

    @staticmethod
    def log(v1: V1Client, fraction: float) -> None:
        config = {"samplingPercentage": fraction, "bigqueryTableName": "p.d.t"}
        body = {"requestLoggingConfig": config}
        v1("PATCH", "models/m/versions/v1?updateMask=requestLoggingConfig", body)

    def test_predictions_are_rows_with_the_columns_of_v1(self, deployed, restart, parts) -> None:
        deployed("POST", "models/m:predict", BODY)
        self.log(deployed, 1)
        answer = deployed("POST", "models/m:predict", {"instances": ["é"]})
        restart()  # which writes what was not written yet
        (row,) = self.rows(parts)
        assert row.pop("time").endswith("+00:00")
        assert json.loads(row.pop("raw_data")) == {"instances": ["é"]}
        assert json.loads(row.pop("raw_prediction")) == answer
        assert row == {"model": "m", "model_version": "v1", "groundtruth": None}

    def test_the_setting_outlives_a_restart_and_zero_ends_it(self, deployed, restart, parts) -> None:
        self.log(deployed, 1)
        again = restart()
        again("POST", "models/m:predict", BODY)
        self.log(again, 0)
        again("POST", "models/m:predict", BODY)
        restart()
        assert len(self.rows(parts)) == 1

    def test_about_the_fraction_asked_for_is_kept(self, deployed, restart, parts) -> None:
        self.log(deployed, 0.5)
        for _ in range(60):
            deployed("POST", "models/m:predict", BODY)
        restart()
        assert 10 <= len(self.rows(parts)) <= 50


def test_the_metrics_say_whether_jobs_and_models_are_restricted(v1: V1Client) -> None:
    sandbox = Sandbox.detect("auto")
    sample = f"graft_sandbox{{landlock={sandbox.abi},mode=auto}}"
    assert metrics(v1)[sample] == sandbox.is_active
