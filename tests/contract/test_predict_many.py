"""`:predictMany`: the same instances, several models, an answer or an error of each."""

from __future__ import annotations

import json

import pytest

from tests.contract.conftest import V1Client


@pytest.fixture
def models(v1: V1Client, parts) -> V1Client:
    for name in ("a", "b"):
        v1("POST", "models", {"name": name})
        v1.deploy(name, "v1", parts.export("gs://other/export"))
    v1.deploy("b", "v2", "gs://other/export")
    v1("POST", "models", {"name": "empty"})
    return v1


def ask(v1: V1Client, *names: str, **more):
    body = {"models": list(names), "instances": ["x", "yy"], **more}
    return v1.http.request("POST", "/v1/projects/p:predictMany", json=body)


def test_each_model_answers_as_it_would_alone(models):
    answer = ask(models, "b", "a", "b/versions/v2", "a")
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert list(results) == ["b", "a", "b/versions/v2"]
    for name in results:
        body = {"instances": ["x", "yy"]}
        assert results[name] == models("POST", f"models/{name}:predict", body)
    assert results["b/versions/v2"]["predictions"][1] == {"served_by": "b/v2", "size": 2}


def test_an_error_of_one_model_is_its_result(models):
    results = ask(models, "a", "none", "empty", "a/versions/none", "a/versions/", "").json()["results"]
    assert len(results["a"]["predictions"]) == 2
    codes = {name: result["error"]["code"] for name, result in results.items() if name != "a"}
    assert codes == {"none": 404, "empty": 400, "a/versions/none": 404, "a/versions/": 400, "": 400}
    assert results["none"] == models("POST", "models/none:predict", {"instances": ["x"]}, code=404)


def test_a_bad_instance_is_told_by_each_model_as_v1_does(models):
    results = ask(models, "a", "b", instances=["bad"]).json()["results"]
    assert results["a"] == results["b"] == {"error": "Prediction failed: a bad instance"}


@pytest.mark.parametrize(
    "change",
    [{"models": []}, {"models": "a"}, {"models": [1]}, {"models": None}, {"instances": None}],
)
def test_a_malformed_request_is_refused(models, change):
    answer = ask(models, "a", **change)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_body_that_is_no_object_is_refused(models):
    for body in (b"[]", b"{", b"\xff", b"[" * 100):
        assert models.http.post("/v1/projects/p:predictMany", content=body).status_code == 400


def test_it_is_counted_as_a_prediction_of_each_model(models, restart, parts):
    assert ask(models, "a", "b").status_code == 200
    text = models.http.get("/metrics").text
    for name in ("a", "b"):
        assert f'graft_predictions_total{{code="200",model="{name}",version="v1"}} 1.0' in text
    parts.settings = parts.settings.model_copy(update={"predictions_per_minute": 3})
    v1 = restart()
    assert ask(v1, "a", "b").status_code == 200
    answer = ask(v1, "a", "b")
    assert answer.status_code == 429
    assert "3 predict requests a minute" in answer.json()["error"]["message"]


def test_a_reader_may_ask_and_another_project_is_not_there(models):
    body = json.dumps({"models": ["a"], "instances": []})
    assert models.http.post("/v1/projects/q:predictMany", content=body).status_code == 404
