"""`:feedback`: what is kept of wrong answers, from whom, and what is refused."""

from __future__ import annotations

import base64
import hashlib

import pytest

from pipeline.artifacts.feedback import Feedback, list_feedback
from pipeline.artifacts.workspace import Workspace
from tests.contract.conftest import V1Client
from tests.contract.test_safety import bearer, write_tokens
from tests.fakes.pictures import noise, png

PICTURE, OTHER = png(noise(1)), png(noise(2))
ID = hashlib.sha256(PICTURE).hexdigest()


def instance(data: bytes = PICTURE):
    return {"inputs": {"b64": base64.b64encode(data).decode()}}


def body(*labels: str, **more):
    return {"instances": [instance()], "labels": list(labels or ("ant",)), **more}


@pytest.fixture
def model(v1: V1Client) -> V1Client:
    v1("POST", "models", {"name": "m"})
    return v1


def records(parts) -> list[Feedback]:
    return list_feedback(Workspace(parts.storage, "gs://graft").feedback("m"))


def test_a_picture_is_kept_with_its_label_and_where_it_comes_from(model, parts):
    headers = {"X-Request-Id": "request-7"}
    answer = model("POST", "models/m:feedback", body(origin="app", who="ann"), headers=headers)
    assert answer == {"feedback": [ID]}
    [record] = records(parts)
    said = (record.label, record.origin, record.who, record.request_id)
    assert said == ("ant", "app", "ann", "request-7")
    assert record.confirmed is None
    folder = Workspace(parts.storage, "gs://graft").feedback("m")
    assert parts.storage.read_bytes(folder.picture(ID)) == PICTURE


def test_what_is_said_twice_is_kept_once_and_a_decision_stays(model, parts):
    model("POST", "models/m:feedback", body())
    folder = Workspace(parts.storage, "gs://graft").feedback("m")
    [record] = records(parts)
    decided = Feedback.from_dict({**record.to_dict(), "confirmed": True, "decided_by": "bob"})
    decided.write(parts.storage, folder.record(ID))
    model("POST", "models/m:feedback", body(who="eve"))
    assert records(parts) == [decided]
    model("POST", "models/m:feedback", body("bee", who="eve"))
    [again] = records(parts)
    assert (again.label, again.who, again.confirmed) == ("bee", "eve", None)


def test_what_a_newer_engine_keeps_is_not_replaced(model, parts):
    model("POST", "models/m:feedback", body())
    uri = Workspace(parts.storage, "gs://graft").feedback("m").record(ID)
    newer = {**parts.storage.read_json(uri), "format": 2}
    parts.storage.write_json(uri, newer)
    answer = model.http.post("/v1/projects/p/models/m:feedback", json=body("bee"))
    assert answer.status_code >= 400
    assert parts.storage.read_json(uri) == newer


def test_pictures_are_taken_as_predict_takes_them(model, parts):
    text = base64.urlsafe_b64encode(OTHER).decode()
    request = {"instances": [{"b64": text}, {"inputs": text}, instance()], "labels": ["a", "a", "b"]}
    assert len(model("POST", "models/m:feedback", request)["feedback"]) == 3
    assert len(records(parts)) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"instances": []}, "1 to 128 instances"),
        ({"instances": None}, "1 to 128 instances"),
        ({"labels": []}, "a label for each"),
        ({"labels": [""]}, "1 to 200 characters"),
        ({"labels": [3]}, "1 to 200 characters"),
        ({"labels": ["a\nb"]}, "in one line"),
        ({"instances": [{"inputs": {"b64": "bm8="}}]}, "instance 0: expected"),
        ({"instances": ["%"]}, "instance 0: expected"),
        ({"instances": [{"key": "1"}]}, "instance 0: expected"),
        ({"who": ["ann"]}, "1 to 200 characters"),
        ({"confirmed": True}, "with the fields"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(model, parts, change, text):
    assert text in model.error("POST", "models/m:feedback", {**body(), **change}, code=400)["message"]
    assert records(parts) == []


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_body_that_is_no_object_is_refused(model, value):
    model.error("POST", "models/m:feedback", value, code=400)


def test_feedback_on_a_model_that_is_not_there_is_a_404(model):
    model.error("POST", "models/none:feedback", body(), code=404)


def test_a_reader_sends_none_and_a_trainers_token_is_named(restart, parts):
    write_tokens(parts)
    v1 = restart()
    v1("POST", "models", {"name": "m"}, headers=bearer("deployer"))
    v1.error("POST", "models/m:feedback", body(), code=403, headers=bearer("reader"))
    v1("POST", "models/m:feedback", body(), headers=bearer("trainer"))
    assert [record.who for record in records(parts)] == ["trainer"]


def test_pictures_have_a_quota_and_a_bound(restart, parts):
    parts.settings = parts.settings.model_copy(update={"feedback_per_minute": 3, "max_feedback": 1})
    v1 = restart()
    v1("POST", "models", {"name": "m"})
    two = {"instances": [instance(), instance(OTHER)], "labels": ["a", "b"]}
    assert "the most that are kept is 1" in v1.error("POST", "models/m:feedback", two, code=429)["message"]
    assert records(parts) == []
    v1("POST", "models/m:feedback", body())
    assert "feedback requests a minute" in v1.error("POST", "models/m:feedback", two, code=429)["message"]
