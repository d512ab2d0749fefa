from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.api.app import OPEN_PATHS
from pipeline.engine.api.routes.unimplemented import MISSING
from pipeline.engine.auth import token_digest
from tests.contract.conftest import every_route
from tests.fakes.engine import FakeParts
from tests.team_only import TEAM_ONLY

ROOT = Path(__file__).resolve().parents[2]


def assert_envelope(answer, code: int, status: str) -> None:
    assert answer.status_code == code
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert (error["code"], error["status"]) == (code, status)
    assert isinstance(error["message"], str)
    assert error["message"]


def test_every_route_refuses_a_request_without_its_token(parts, restart):
    (parts.home / "engine").mkdir()
    digest = token_digest("secret")
    tokens = {"tokens": [{"sha256": digest, "name": "test"}]}
    (parts.home / "engine" / "tokens.json").write_text(json.dumps(tokens))
    v1 = restart()
    assert v1.http.get("/healthz").json() == {"status": "ok"}
    found = [route for route in every_route(v1.http.app) if route[1] not in OPEN_PATHS]
    assert len(found) > 30
    for method, path in [*found, ("GET", "/nothing")]:
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            answer = v1.http.request(method, path, headers=header)
            assert_envelope(answer, 401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"] == 'Bearer realm="ml-engine"'
    assert v1.http.get("/v1/projects/p/models", headers={"Authorization": "Bearer secret"}).json() == {}


def test_every_route_answers_nonsense_with_the_envelope(v1):
    found = [route for route in every_route(v1.http.app) if route[1] not in {*OPEN_PATHS, "/metrics"}]
    assert len(found) > 30
    for method, path in found:
        answer = v1.http.request(method, path, content=b"{nonsense", params={"pageSize": "x"})
        if path.endswith((":getConfig", "/openapi.json")):  # they read nothing
            assert answer.status_code == 200
            continue
        assert answer.status_code in (400, 404, 501), (method, path, answer.text)
        assert_envelope(answer, answer.status_code, answer.json()["error"]["status"])


def test_no_request_brings_tensorflow_into_the_api_process(tmp_path):
    script = """
import sys
from pathlib import Path
from tests.contract.conftest import TestClient, V1Client, create_app, every_route
from tests.fakes.engine import FakeParts

import pipeline.engine.__main__  # noqa: F401

parts = FakeParts(Path(sys.argv[1]))
uri = parts.export("gs://other/export")
with TestClient(create_app(parts.engine())) as http:
    v1 = V1Client(http)
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", uri)
    v1("POST", "models/m:predict", {"instances": [[1]]})
    for method, path in every_route(http.app):
        http.request(method, path, content=b"{}")
print(sorted({"tensorflow", "keras", "numpy", "airflow", *sys.argv[2:]} & set(sys.modules)))
"""
    team = () if os.environ.get("GRAFT_TEST_DATABASE") == "postgresql" else TEAM_ONLY
    command = [sys.executable, "-c", script, str(tmp_path), *team]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert answer.stdout == "[]\n", answer.stderr


def test_unknown_paths_and_methods_are_the_envelope(v1):
    assert_envelope(v1.http.get("/nothing"), 404, "NOT_FOUND")
    assert_envelope(v1.http.get("/v1/projects/p/models/"), 404, "NOT_FOUND")
    assert_envelope(v1.http.get("/docs"), 404, "NOT_FOUND")
    assert_envelope(v1.http.put("/v1/projects/p/models"), 405, "INVALID_ARGUMENT")
    assert_envelope(v1.http.delete("/v1/projects/p/jobs/x"), 405, "INVALID_ARGUMENT")


@pytest.mark.parametrize("name", MISSING)
def test_what_v1_has_and_we_do_not_is_501_and_named(v1, name):
    method, path = MISSING[name]
    path = re.sub(r"\{p\}", "p", path)
    answer = v1.http.request(method, re.sub(r"\{[^}]*\}", "x", path), json={})
    assert_envelope(answer, 501, "UNIMPLEMENTED")
    assert answer.json()["error"]["message"].startswith(name)


def test_a_body_over_the_limit_is_refused_with_the_text_users_know(tmp_path, restart, parts):
    parts.settings = FakeParts(tmp_path, max_body_bytes=2000).settings
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    text = "Request payload size exceeds the limit: 2000 bytes."
    body = b"[" + b"1," * 1500 + b"1]"
    for content in (body, iter([body[:1800], body[1800:]])):
        answer = v1.http.post("/v1/projects/p/models", content=content)
        assert_envelope(answer, 400, "INVALID_ARGUMENT")
        assert answer.json()["error"]["message"] == text


def test_a_bug_is_a_500_envelope_without_its_traceback(v1):
    def fail(*_):
        raise RuntimeError("secret detail")

    v1.http.app.state.engine.models.list = fail
    answer = v1.http.get("/v1/projects/p/models")
    assert_envelope(answer, 500, "INTERNAL")
    assert "secret" not in answer.text


@pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::FutureWarning")  # google.api_core's
def test_a_bucket_that_cannot_be_reached_is_named_with_the_fix(v1, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")
    v1("POST", "models", {"name": "m"})
    body = {"name": "v1", "deploymentUri": "gs://elsewhere/m"}
    error = v1.error("POST", "models/m/versions", body, code=400)
    assert error["status"] == "FAILED_PRECONDITION"
    assert "GRAFT_BUCKETS=elsewhere=" in error["message"]
