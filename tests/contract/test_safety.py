"""What keeps an engine safe: roles, limits, and nothing secret in its log."""

from __future__ import annotations

import json
import logging

import pytest

from pipeline.engine.auth import Role, Tokens, hmac, token_digest
from tests.contract.test_jobs import JOB, TRAINING
from tests.fakes.engine import FakeParts

SECRET = "tok-8f2b6c1d9e"
REQUESTS = {
    Role.READER: [("GET", "models", None), ("POST", "models/m:predict", {"instances": ["x"]})],
    Role.TRAINER: [
        ("POST", "jobs", {**JOB, "jobId": "j9"}),
        ("POST", "jobs/j1:cancel", {}),
        ("PATCH", "jobs/j1?updateMask=labels", {"labels": {}}),
    ],
    Role.DEPLOYER: [
        ("POST", "models", {"name": "new"}),
        ("PATCH", "models/m?updateMask=description", {"description": "d"}),
        ("POST", "models/m/versions/v1:setDefault", {}),
        ("POST", "models/m/versions", {"name": "v2", "deploymentUri": "gs://other/export"}),
        ("DELETE", "models/m/versions/v1", None),
        ("DELETE", "models/m", None),
    ],
}


def write_tokens(parts):
    rows = [{"sha256": token_digest(f"{SECRET}-{name}"), "name": name, "role": name} for name in Role]
    (parts.home / "engine").mkdir(exist_ok=True)
    (parts.home / "engine" / "tokens.json").write_text(json.dumps({"tokens": rows}))


def bearer(role):
    return {"Authorization": f"Bearer {SECRET}-{role}"}


@pytest.mark.parametrize("role", Role)
def test_a_role_may_send_its_requests_and_no_others(restart, parts, role):
    write_tokens(parts)
    v1 = restart()
    v1.http.headers.update(bearer(Role.DEPLOYER))
    v1("POST", "jobs", JOB)
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://other/export"))
    del v1.http.headers["Authorization"]
    for needed, rows in REQUESTS.items():
        for method, path, body in rows:
            answer = v1.http.request(method, f"/v1/projects/p/{path}", json=body, headers=bearer(role))
            if role.includes(needed):
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.json()["error"]["status"] == "PERMISSION_DENIED"


def test_a_reader_cannot_create_under_the_name_of_a_get(restart, parts):
    write_tokens(parts)
    v1 = restart()
    headers = {**bearer(Role.READER), "X-HTTP-Method-Override": "GET"}
    answer = v1.http.post("/v1/projects/p/models", headers=headers, json={"name": "m"})
    assert answer.json() == {}  # the list that a GET is
    headers = {**bearer(Role.READER), "X-HTTP-Method-Override": "DELETE"}
    assert v1.http.post("/v1/projects/p/models/m", headers=headers).status_code == 403


def test_a_token_is_compared_with_every_digest_and_in_constant_time(monkeypatch):
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or compare(a, b))
    digests = [token_digest(name) for name in "abc"]
    Tokens(dict.fromkeys(digests, Role.READER)).check("Bearer a")
    assert compared == digests


def test_no_secret_reaches_the_log_or_an_answer(restart, parts, caplog):
    caplog.set_level(logging.DEBUG)
    write_tokens(parts)
    v1 = restart()
    told = [
        v1.http.get("/v1/projects/p/models", headers=bearer(Role.READER), params={"key": f"{SECRET}-key"}),
        v1.http.get("/v1/projects/p/models", headers={"Authorization": f"Bearer {SECRET}-wrong"}),
        v1.http.get("/v1/projects/p/models", headers={"Authorization": f"{SECRET} {SECRET}"}),
        v1.http.post("/v1/projects/p/models", headers=bearer(Role.READER), json={"name": "m"}),
        v1.http.get("/v1/projects/q/models", headers=bearer(Role.READER), params={"access_token": SECRET}),
    ]
    v1.http.app.state.engine.models.list = None  # a bug
    told.append(v1.http.get("/v1/projects/p/models", headers=bearer(Role.READER), params={"key": SECRET}))
    assert [answer.status_code for answer in told] == [200, 401, 401, 403, 404, 500]
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]  # the test's client
    assert ours
    assert SECRET not in "".join(logging.Formatter().format(record) for record in ours)
    assert SECRET not in "".join(answer.text for answer in told)
    kept = (path for path in (parts.home / "engine").rglob("*") if path.is_file())
    assert all(SECRET.encode() not in path.read_bytes() for path in kept)


class TestLimits:
    def start(self, restart, parts, **settings):
        parts.settings = FakeParts(parts.home, **settings).settings
        v1 = restart()
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", parts.export("gs://other/export"))
        return v1

    @pytest.mark.parametrize("path", ["models", "jobs", "models/m/versions", "models/m:predict"])
    def test_json_that_is_nested_too_deeply_is_refused(self, restart, parts, path):
        v1 = self.start(restart, parts, max_json_depth=10)
        for depth in (11, 100_000):
            body = b'{"instances":' + b"[" * depth + b"]" * depth + b"}"
            answer = v1.http.post(f"/v1/projects/p/{path}", content=body)
            assert answer.status_code == 400
            assert "nested more deeply than 10 levels" in answer.json()["error"]["message"]

    def test_json_that_could_not_be_sent_back_is_refused(self, v1):
        for body in (b'{"name": "\\ud800"}', b'{"name": NaN}', b'{"name": 1e999}', b"\xff", b"1" * 5000):
            answer = v1.http.post("/v1/projects/p/models", content=body)
            assert answer.status_code == 400, body[:20]

    @pytest.mark.parametrize(
        "uri",
        [
            "/etc/passwd",
            "file:///etc/passwd",
            "http://169.254.169.254/latest",
            "gs://graft/../../etc",
            "gs://graft/a/../../b",
            "gs://",
            "gs:///a",
            "gs://graft/\x00",
            "gs://graft/" + "a" * 256,
            "gs://graft/" + "a/" * 600,
        ],
    )
    def test_nothing_but_buckets_is_named(self, v1, uri):
        v1("POST", "models", {"name": "m"})
        v1.error("POST", "models/m/versions", {"name": "v", "deploymentUri": uri}, code=400)
        for field, value in (("packageUris", [uri]), ("jobDir", uri)):
            body = {"jobId": "j", "trainingInput": {**TRAINING, field: value}}
            v1.error("POST", "jobs", body, code=400)
        given = {
            "dataFormat": "JSON",
            "inputPaths": ["gs://other/a"],
            "outputPath": "gs://other/o",
            "uri": "gs://a/b",
        }
        for field, value in (("inputPaths", [uri]), ("outputPath", uri), ("uri", uri)):
            v1.error("POST", "jobs", {"jobId": "j", "predictionInput": {**given, field: value}}, code=400)
        assert v1("GET", "jobs") == {}

    def test_too_many_instances_are_refused(self, v1, parts):
        v1("POST", "models", {"name": "m"})
        v1.deploy("m", "v1", parts.export("gs://other/export"))
        error = v1.error("POST", "models/m:predict", {"instances": [0] * 10_001}, code=400)
        assert "At most 10000 instances" in error["message"]
