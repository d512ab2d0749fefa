"""RestMLEngine against a loopback server that answers as v1 does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pipeline.errors import JobConflict, JobTimeout, PlatformError, PlatformUnavailable
from pipeline.ml_engine.protocol import JobLog, default_version, resource_id
from pipeline.ml_engine.rest import RestMLEngine
from tests.fakes.clock import FakeClock

GONE = "http://127.0.0.1:1"
JOB = {"jobId": "j", "trainingInput": {"region": "r", "args": ["a"]}}
VERSION = "/v1/projects/p/models/m/versions/v"


def error(status: int, message: str = "no") -> Response:
    body = {"error": {"code": status, "message": message, "status": "X", "details": []}}
    return Response(json.dumps(body), status, content_type="application/json")


def answers(*values: Any) -> Callable[[Request], Response]:
    queue = list(values)

    def handle(request: Request) -> Response:
        value = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(value, Response):
            return value
        return Response(json.dumps(value), content_type="application/json")

    return handle


@pytest.fixture
def engine(httpserver: HTTPServer) -> RestMLEngine:
    url = httpserver.url_for("/").rstrip("/")
    return RestMLEngine(url, "p", "secret", patience_seconds=0, operation_seconds=5, clock=FakeClock())


def test_models_are_listed_page_by_page(engine: RestMLEngine, httpserver: HTTPServer) -> None:
    pages = answers({"models": [{"name": "a"}], "nextPageToken": "1"}, {"models": [{"name": "b"}]})
    httpserver.expect_request("/v1/projects/p/models").respond_with_handler(pages)
    assert [model["name"] for model in engine.list_models()] == ["a", "b"]


def test_metrics_are_read_beside_v1_and_a_service_may_have_none(
    engine: RestMLEngine, httpserver: HTTPServer
) -> None:
    httpserver.expect_ordered_request("/metrics").respond_with_handler(answers(error(404)))
    assert engine.read_metrics() is None
    httpserver.clear()
    httpserver.expect_request("/metrics", headers={"Authorization": "Bearer secret"}).respond_with_data(
        "m 1\n"
    )
    assert engine.read_metrics() == "m 1\n"


@pytest.mark.parametrize(("status", "is_transient"), [(429, True), (500, True), (503, True), (501, False)])
def test_what_is_not_implemented_is_not_asked_again(
    engine: RestMLEngine, httpserver: HTTPServer, status: int, is_transient: bool
) -> None:
    httpserver.expect_request("/v1/projects/p/models/m").respond_with_handler(answers(error(status)))
    with pytest.raises(PlatformError) as caught:
        engine.get_model("m")
    assert caught.value.transient is is_transient


def test_an_engine_that_is_busy_or_starts_again_is_asked_until_the_deadline(httpserver: HTTPServer) -> None:
    clock = FakeClock()
    url = httpserver.url_for("/").rstrip("/")
    engine = RestMLEngine(url, "p", "secret", patience_seconds=60, clock=clock)
    httpserver.expect_request("/v1/projects/p/models/m").respond_with_handler(
        answers(error(503), error(429), error(500), {"name": "projects/p/models/m"})
    )
    assert engine.get_model("m") == {"name": "projects/p/models/m"}
    assert clock.sleeps == [0.5, 1, 2]
    httpserver.clear()
    httpserver.expect_request("/v1/projects/p/models/m").respond_with_handler(answers(error(503)))
    with pytest.raises(PlatformUnavailable):
        engine.get_model("m")
    assert sum(clock.sleeps) <= 3.5 + 60


class TestJobs:
    def test_submits_with_the_bearer_token(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        httpserver.expect_request(
            "/v1/projects/p/jobs", "POST", json=JOB, headers={"Authorization": "Bearer secret"}
        ).respond_with_json({**JOB, "state": "QUEUED"})
        assert engine.create_job(JOB)["state"] == "QUEUED"

    def test_adopts_on_409_when_the_input_is_the_same(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/jobs").respond_with_handler(answers(error(409)))
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_json({**JOB, "state": "RUNNING"})
        assert engine.create_job(JOB)["state"] == "RUNNING"

    def test_conflicts_on_409_when_the_input_differs(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        other = {"jobId": "j", "state": "RUNNING", "trainingInput": {"region": "r", "args": ["b"]}}
        httpserver.expect_request("/v1/projects/p/jobs").respond_with_handler(answers(error(409)))
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_json(other)
        with pytest.raises(JobConflict, match=r"trainingInput\.args"):
            engine.create_job(JOB)

    def test_missing_job_is_none(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_handler(answers(error(404)))
        assert engine.get_job("j") is None

    @pytest.mark.parametrize("status", [400, 404])
    def test_cancelling_what_has_ended_is_no_error(
        self, engine: RestMLEngine, httpserver: HTTPServer, status: int
    ) -> None:
        httpserver.expect_request("/v1/projects/p/jobs/j:cancel").respond_with_handler(answers(error(status)))
        engine.cancel_job("j")
        assert len(httpserver.log) == 1

    def test_reads_the_log_in_pieces(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        pieces = {"0": ("epoch 1\n", "8", False), "8": ("epoch 2\n", "16", True), "16": ("", "16", True)}
        for offset, (text, following, complete) in pieces.items():
            httpserver.expect_request(
                "/v1/projects/p/jobs/j:log",
                query_string={"offset": offset, "limit": "1048576"},
                headers={"Authorization": "Bearer secret"},
            ).respond_with_json({"log": text, "nextOffset": following, "complete": complete})
        assert engine.job_log("j") == "epoch 1\nepoch 2\n"
        piece = engine.read_job_log("j", offset=8, limit=1_048_576)
        assert piece == JobLog(text="epoch 2\n", next_offset=16, is_complete=True)

    def test_the_log_of_an_unknown_job_is_an_error(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/jobs/j:log").respond_with_handler(
            answers(error(404, "no such job"))
        )
        with pytest.raises(PlatformError, match="no such job"):
            engine.read_job_log("j")


class TestFailures:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_come_again_answers_are_transient(
        self, engine: RestMLEngine, httpserver: HTTPServer, status: int
    ) -> None:
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_handler(
            answers(error(status, "busy"))
        )
        with pytest.raises(PlatformUnavailable, match="busy") as caught:
            engine.get_job("j")
        assert caught.value.transient

    def test_401_says_to_check_the_token_and_hides_it(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_handler(answers(error(401)))
        with pytest.raises(PlatformError, match="connection's token") as caught:
            engine.get_job("j")
        assert "secret" not in f"{caught.value}{engine!r}"
        assert not caught.value.transient

    def test_nobody_listening_is_transient(self) -> None:
        engine = RestMLEngine("http://127.0.0.1:1", "p", "t", patience_seconds=0, timeout_seconds=2)
        with pytest.raises(PlatformUnavailable, match="does not answer"):
            engine.get_job("j")
        with pytest.raises(PlatformUnavailable, match="does not answer"):
            engine.job_log("j")

    def test_proxies_of_the_environment_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_json({**JOB, "state": "RUNNING"})
        engine = RestMLEngine(httpserver.url_for("/"), "p", "t", patience_seconds=0)
        assert engine.get_job("j") == {**JOB, "state": "RUNNING"}


class TestOtherEngines:
    """Of a team: each answers for all, and one may be gone."""

    def make(self, endpoint: str, *others: str) -> RestMLEngine:
        return RestMLEngine(endpoint, "p", "t", patience_seconds=0, clock=FakeClock(), others=others)

    def test_answer_when_the_first_is_gone(self, httpserver: HTTPServer) -> None:
        engine = self.make(GONE, httpserver.url_for("/"))
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_json({**JOB, "state": "RUNNING"})
        httpserver.expect_request("/metrics").respond_with_data("m 1")
        for _ in range(2):
            assert engine.get_job("j") == {**JOB, "state": "RUNNING"}
        assert engine.read_metrics() == "m 1"
        assert engine.endpoint == GONE

    def test_every_page_of_a_list_is_read(self, httpserver: HTTPServer) -> None:
        engine = self.make(GONE, httpserver.url_for("/"))
        httpserver.expect_request("/v1/projects/p/models").respond_with_handler(
            answers({"models": [{"name": "a"}], "nextPageToken": "n"}, {"models": [{"name": "b"}]})
        )
        assert [model["name"] for model in engine.list_models()] == ["a", "b"]
        assert "pageToken=n" in str(httpserver.log[1][0].query_string)

    def test_are_not_asked_while_the_first_answers(self, httpserver: HTTPServer) -> None:
        engine = self.make(httpserver.url_for("/"), GONE)
        httpserver.expect_request("/v1/projects/p/jobs/j").respond_with_handler(answers(error(503, "busy")))
        with pytest.raises(PlatformUnavailable, match="busy"):
            engine.get_job("j")

    def test_all_are_named_when_none_answers(self) -> None:
        with pytest.raises(PlatformUnavailable, match=f"{GONE} and http://127.0.0.1:2 does not answer"):
            self.make(GONE, "http://127.0.0.1:2").get_job("j")


class TestModels:
    def test_ensure_model_creates_only_what_is_absent(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_ordered_request("/v1/projects/p/models/m").respond_with_handler(answers(error(404)))
        httpserver.expect_ordered_request("/v1/projects/p/models", "POST").respond_with_json({"name": "m"})
        httpserver.expect_ordered_request("/v1/projects/p/models/m").respond_with_json({"name": "m"})
        assert engine.ensure_model("m") == engine.ensure_model("m") == {"name": "m"}

    def test_ensure_model_takes_the_one_that_a_racer_made(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/models/m").respond_with_handler(
            answers(error(404), {"name": "m"})
        )
        httpserver.expect_request("/v1/projects/p/models", "POST").respond_with_handler(answers(error(409)))
        assert engine.ensure_model("m") == {"name": "m"}

    def test_default_version_reads_full_and_short_names(self) -> None:
        assert default_version({"defaultVersion": {"name": "projects/p/models/m/versions/v_1"}}) == "v_1"
        assert default_version({"defaultVersion": {"name": "v_1"}}) == "v_1"
        assert default_version({}) is None
        assert default_version(None) is None
        assert resource_id({"name": "projects/p/jobs/j"}) == "j"


class TestVersions:
    BODY = {"name": "v", "deploymentUri": "gs://m", "runtimeVersion": "2.21"}
    READY = {"name": "projects/p/models/m/versions/v", "deploymentUri": "gs://m", "state": "READY"}

    def test_waits_for_the_operation(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        operation = {"name": "projects/p/operations/o"}
        httpserver.expect_request(VERSION).respond_with_handler(answers(error(404), self.READY))
        httpserver.expect_request("/v1/projects/p/models/m/versions", "POST").respond_with_json(operation)
        httpserver.expect_request("/v1/projects/p/operations/o").respond_with_handler(
            answers(operation, {**operation, "done": True, "response": {}})
        )
        assert engine.create_version("m", self.BODY) == self.READY

    def test_returns_the_equal_ready_version_without_creating(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request(VERSION).respond_with_json(self.READY)
        assert engine.create_version("m", self.BODY) == self.READY

    def test_waits_for_a_version_that_is_still_coming_up(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        creating = {**self.READY, "state": "CREATING"}
        httpserver.expect_request(VERSION).respond_with_handler(answers(creating, creating, self.READY))
        assert engine.create_version("m", self.BODY)["state"] == "READY"

    def test_a_version_stuck_in_creating_times_out(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request(VERSION).respond_with_json({**self.READY, "state": "CREATING"})
        with pytest.raises(JobTimeout, match="longer than 5 s"):
            engine.create_version("m", self.BODY)

    def test_replaces_a_version_that_failed(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        failed = {**self.READY, "state": "FAILED", "errorMessage": "bad model"}
        done = {"name": "projects/p/operations/o", "done": True, "response": {}}
        httpserver.expect_request(VERSION, "GET").respond_with_handler(answers(failed, self.READY))
        httpserver.expect_request(VERSION, "DELETE").respond_with_json(done)
        httpserver.expect_request("/v1/projects/p/models/m/versions", "POST").respond_with_json(done)
        assert engine.create_version("m", self.BODY) == self.READY
        assert [request.method for request, _ in httpserver.log] == ["GET", "DELETE", "POST", "GET"]

    @pytest.mark.parametrize(
        ("present", "wanted", "path"),
        [
            ({"labels": {"a": "1", "graft-runtime": "litert"}}, {"labels": {"a": "2"}}, "labels"),
            ({}, {"labels": {"a": "1"}}, "labels"),
            ({"description": "old"}, {"description": "new"}, "description"),
            ({}, {"autoScaling": {"minNodes": 1}}, "autoScaling.minNodes"),
            ({"manualScaling": {"nodes": 1}}, {"manualScaling": {"nodes": "2"}}, "manualScaling.nodes"),
        ],
    )
    def test_a_version_that_differs_is_a_conflict_that_names_the_field_or_is_updated(
        self,
        engine: RestMLEngine,
        httpserver: HTTPServer,
        present: dict[str, Any],
        wanted: dict[str, Any],
        path: str,
    ) -> None:
        httpserver.expect_request(VERSION, "GET").respond_with_json({**self.READY, **present})
        done = {"name": "projects/p/operations/o", "done": True, "response": {}}
        httpserver.expect_request(VERSION, "PATCH").respond_with_json(done)
        with pytest.raises(PlatformError, match=f"exists with another `{path}`.*update_existing=True"):
            engine.create_version("m", {**self.BODY, **wanted})
        assert {request.method for request, _ in httpserver.log} == {"GET"}
        engine.create_version("m", {**self.BODY, **wanted}, update_existing=True)
        (patch,) = (request for request, _ in httpserver.log if request.method == "PATCH")
        assert patch.args["updateMask"] == path
        value = json.loads(patch.data)[path.partition(".")[0]]
        assert value in (*wanted.values(), {"nodes": 2})

    @pytest.mark.parametrize(
        "extra",
        [
            {"labels": {"a": "1", "graft-runtime": "litert"}, "description": "d"},
            {"labels": {"a": "1"}, "description": "d", "autoScaling": {"minNodes": 3}},
        ],
    )
    def test_what_the_engine_adds_and_what_is_not_asked_for_is_no_conflict(
        self, engine: RestMLEngine, httpserver: HTTPServer, extra: dict[str, Any]
    ) -> None:
        httpserver.expect_request(VERSION).respond_with_json({**self.READY, **extra})
        body = {**self.BODY, "labels": {"a": "1"}, "description": "d"}
        assert engine.create_version("m", body)["state"] == "READY"

    def test_refuses_a_version_of_another_model_directory(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request(VERSION).respond_with_json({**self.READY, "deploymentUri": "gs://other"})
        with pytest.raises(PlatformError, match="another `deploymentUri`"):
            engine.create_version("m", self.BODY)

    def test_failed_operation_carries_its_message(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        operation = {"name": "o", "done": True, "error": {"code": 9, "message": "Bad model detected"}}
        httpserver.expect_request(VERSION).respond_with_handler(answers(error(404)))
        httpserver.expect_request("/v1/projects/p/models/m/versions", "POST").respond_with_json(operation)
        with pytest.raises(PlatformError, match="Bad model detected"):
            engine.create_version("m", self.BODY)

    def test_deleting_an_absent_version_is_no_error(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request(VERSION, "DELETE").respond_with_handler(answers(error(404)))
        engine.delete_version("m", "v")
        assert len(httpserver.log) == 1

    def test_lists_every_page(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        pages = answers({"versions": [{"name": "a"}], "nextPageToken": "2"}, {"versions": [{"name": "b"}]})
        httpserver.expect_request("/v1/projects/p/models/m/versions").respond_with_handler(pages)
        assert [version["name"] for version in engine.list_versions("m")] == ["a", "b"]

    def test_model_without_versions_or_absent_has_none(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/models/m/versions").respond_with_handler(
            answers({}, error(404))
        )
        assert engine.list_versions("m") == engine.list_versions("m") == []

    def test_set_default(self, engine: RestMLEngine, httpserver: HTTPServer) -> None:
        httpserver.expect_request(f"{VERSION}:setDefault", "POST").respond_with_json(self.READY)
        assert engine.set_default("m", "v") == self.READY


class TestPrediction:
    def test_default_version_and_named_version_have_their_paths(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/models/m:predict").respond_with_json({"predictions": [1]})
        httpserver.expect_request(
            f"{VERSION}:predict", json={"instances": [{"x": 1}], "signature_name": "keyed"}
        ).respond_with_json({"predictions": [2]})
        assert engine.predict("m", [{"x": 1}]) == [1]
        assert engine.predict("m", [{"x": 1}], version="v", signature_name="keyed") == [2]

    def test_error_answer_with_status_200_is_raised(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/models/m:predict").respond_with_json(
            {"error": "instance 0 is no picture"}
        )
        with pytest.raises(PlatformError, match="instance 0 is no picture"):
            engine.predict("m", ["x"])

    def test_many_models_are_asked_at_once_and_errors_stay_with_their_model(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        results = {
            "a": {"predictions": [1, 2]},
            "b": {"error": "Prediction failed: no"},
            "c": {"error": {"code": 404, "message": "gone"}},
            "d": {"predictions": [1]},
        }
        body = {"models": list(results), "instances": ["x", "y"], "signature_name": "keyed"}
        httpserver.expect_request("/v1/projects/p:predictMany", method="POST", json=body).respond_with_json(
            {"results": results}
        )
        found = engine.predict_many(list(results), ["x", "y"], signature_name="keyed")
        assert found.pop("a") == [1, 2]
        texts = {name: str(error) for name, error in found.items()}
        assert texts == {
            "b": "Prediction by b failed: Prediction failed: no",
            "c": "c answered 404: gone",
            "d": "d did not answer one prediction for each of 2 instances.",
        }

    def test_wrong_number_of_predictions_is_raised(
        self, engine: RestMLEngine, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/v1/projects/p/models/m:predict").respond_with_json({"predictions": [1]})
        with pytest.raises(PlatformError, match="2 instances"):
            engine.predict("m", ["x", "y"])
