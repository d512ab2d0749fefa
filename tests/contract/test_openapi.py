"""The OpenAPI document, and schemathesis on it: no 5xx, no answer that the document does not allow."""

from __future__ import annotations

import json
import os
import string

import hypothesis
import pytest
import requests
import schemathesis
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, strategies as st

from pipeline.engine.api.app import create_app
from pipeline.engine.api.openapi import openapi, operation_id
from pipeline.engine.api.routes import feedback, jobs, models, operations, predict, projects, tokens
from tests.fakes.engine import FakeParts

IS_SOAK = bool(os.environ.get("GRAFT_SOAK"))
CHECKS = [
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]
OPERATIONS = [
    operation_id(route)
    for module in (feedback, jobs, models, operations, predict, projects, tokens)
    for route in module.router.routes
]
TRAINING = {"pythonModule": "t.task", "packageUris": ["gs://graft/a.tar.gz"]}


@pytest.fixture(scope="module")
def document(site):
    """The document, whose paths lead to what there is more often than not."""
    found = requests.get(f"{site.url}/openapi.json", timeout=10).json()
    model = site.new_model("v1", "v2").rpartition("/")[2]
    job = site.new_job(trainingInput=TRAINING)["jobId"]
    operation = site.operations.list(name="projects/p").execute()["operations"][0]["name"].rpartition("/")[2]
    there = {
        "project": "p",
        "model": model,
        "version": "v2",
        "job": job,
        "operation": operation,
        "location": "local",
    }
    for path in found["paths"].values():
        for method in path.values():
            for parameter in method["parameters"]:
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": [there[parameter["name"]], "none"]}
    return found


@pytest.fixture
def schema(document):
    return schemathesis.openapi.from_dict(document)


def test_every_route_is_described_or_unimplemented(tmp_path):
    app = create_app(FakeParts(tmp_path).engine())
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    ours = [route for route in routes if not route.endpoint.__module__.endswith("unimplemented")]
    described = {call["operationId"] for path in openapi(app)["paths"].values() for call in path.values()}
    assert described == {operation_id(route) for route in ours if "/v1/" in route.path} == set(OPERATIONS)


def test_every_operation_describes_its_response_its_errors_and_its_body(document):
    for path in document["paths"].values():
        for method, call in path.items():
            for code in ("200", "4XX", "5XX"):
                schema = call["responses"][code]["content"]["application/json"]["schema"]
                name = schema["$ref"].rpartition("/")[2]
                assert name in document["components"]["schemas"]
                assert (name == "Error") == (code != "200")
            has_body = method in ("post", "patch") and not path_without_body(call["operationId"])
            assert has_body == ("requestBody" in call)


def path_without_body(name: str) -> bool:
    return name in ("jobs.cancel", "operations.cancel", "models.set_default")


def test_the_document_is_behind_the_token(site, document):
    assert document["openapi"] == "3.1.0"
    assert len(document["paths"]) >= 17
    version = document["components"]["schemas"]["Version"]
    assert version["additionalProperties"] is False


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_whatever_is_sent_no_answer_is_a_5xx_or_leaves_the_document(name, schema, site):
    operation = schema.find_operation_by_id(name)
    session = requests.Session()

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=2000 if IS_SOAK else 8,
        deadline=None,
        derandomize=not IS_SOAK,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        answer = case.call(base_url=site.url, session=session)
        if answer.status_code != 501:  # which is said of parts of v1, by their names
            assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=CHECKS)

    with session:
        check()


BODIES = {
    "jobs": {"jobId": "j", "trainingInput": TRAINING, "labels": {"a": "b"}},
    "models": {"name": "m", "regions": ["r"], "labels": {}},
    "models/m/versions": {"name": "v", "deploymentUri": "gs://other/export", "autoScaling": {"minNodes": 1}},
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["gs://", "gs://a/../b", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@hypothesis.given(path=st.sampled_from(sorted(BODIES)), data=st.data())
@hypothesis.settings(
    max_examples=5000 if IS_SOAK else 60,
    deadline=None,
    derandomize=not IS_SOAK,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_a_good_body_with_one_bad_value_is_never_a_5xx(site, path, data):
    body = dict(BODIES[path])
    target = body
    name = data.draw(st.sampled_from(sorted(body)))
    if isinstance(body[name], dict) and body[name] and data.draw(st.booleans()):
        target = body[name] = dict(body[name])
        name = data.draw(st.sampled_from(sorted(target)))
    target[name] = data.draw(VALUES)
    url = f"{site.url}/v1/projects/p/{path.replace('models/m/', 'models/none/')}"
    answer = requests.post(url, data=json.dumps(body), timeout=30)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text


@hypothesis.given(
    tail=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE"]),
)
@hypothesis.settings(
    max_examples=2000 if IS_SOAK else 40,
    deadline=None,
    derandomize=not IS_SOAK,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_path_is_a_5xx(site, tail, method):
    quoted = "".join(
        c if c in string.ascii_letters + "/:" else requests.utils.quote(c, safe="") for c in tail
    )
    answer = requests.request(method, f"{site.url}/v1/projects/p/{quoted}", timeout=30)
    assert answer.status_code < 500 or answer.status_code == 501, answer.text
