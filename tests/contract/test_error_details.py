"""The details of the error envelope that clients take apart."""

from __future__ import annotations

import json

import pytest

from tests.contract.rows import Table, refused
from tests.fakes.engine import FakeParts

TABLE = Table()


@TABLE.row(
    "idempotent only if details has length 1, that @type, one violation, field `model.name` "
    "and this exact description"
)
def idempotent_create(site):
    name = site.new_model().rpartition("/")[2]
    error = refused(site.models.create(parent="projects/p", body={"name": name}))
    text = "A model with the same name already exists."
    assert json.loads(error.content) == {
        "error": {
            "code": 409,
            "message": f"Field: model.name Error: {text}",
            "status": "ALREADY_EXISTS",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "model.name", "description": text}],
                }
            ],
        }
    }


@TABLE.row("404 form: `Field: name Error: The specified model was not found.` status NOT_FOUND")
def not_found(site):
    error = refused(site.models.get(name="projects/p/models/none"))
    body = json.loads(error.content)["error"]
    assert (body["code"], body["status"]) == (404, "NOT_FOUND")
    assert body["message"] == "Field: name Error: The specified model was not found."
    assert body["details"][0]["fieldViolations"][0]["field"] == "name"


@TABLE.row("Statuses clients branch on: 400")
def bad(site):
    error = refused(site.jobs.create(parent="projects/p", body={"jobId": "a-b"}))
    assert (error.status_code, '"INVALID_ARGUMENT"' in error.content.decode()) == (400, True)


@TABLE.row("Statuses clients branch on: 404")
def missing(site):
    for request in (
        site.jobs.get(name="projects/p/jobs/none"),
        site.versions.get(name="projects/p/models/none/versions/v1"),
        site.operations.get(name="projects/p/operations/none"),
        site.models.get(name="projects/other/models/m"),
        site.projects.predict(name="projects/p/models/none", body={"instances": []}),
    ):
        assert refused(request).status_code == 404


@TABLE.row("Statuses clients branch on: 409")
def conflict(site):
    job = site.new_job()
    body = {"jobId": job["jobId"], "trainingInput": site.training()}
    assert refused(site.jobs.create(parent="projects/p", body=body)).status_code == 409


@TABLE.row("the message reaches the client: HttpError.reason and error_details")
def reasons(site):
    error = refused(site.models.create(parent="projects/p", body={"name": "a-b"}))
    assert error.reason.startswith("Field: model.name Error: A name should start with a letter")
    assert error.error_details[0]["fieldViolations"][0]["field"] == "model.name"


@TABLE.row("unknown body fields are NOT rejected by the client: validate on the server")
def unknown_fields(site):
    site.http.requests_are_valid = False
    request = site.models.create(parent="projects/p", body={"name": site.new_name(), "nonsense": 1})
    assert 'Unknown name "nonsense": Cannot find field.' in refused(request).reason
    body = {
        "name": site.new_name(),
        "labels": {},
        "online_prediction_logging": True,
        "onlinePredictionLogging": True,
    }
    assert "given twice" in refused(site.models.create(parent="projects/p", body=body)).reason
    site.http.requests_are_valid = True


def test_a_list_whose_address_is_too_long_for_the_client_is_a_get_all_the_same(site):
    job = site.new_job(labels={"long": "x"})
    text = f'jobId:{job["jobId"]} AND NOT jobId:"{"é" * 900}"'
    found = site.jobs.list(parent="projects/p", filter=text).execute()
    assert [row["jobId"] for row in found["jobs"]] == [job["jobId"]]


@pytest.mark.parametrize("check", TABLE.rows)
def test_error_rule_holds(check, site):
    check(site)


def test_5xx_and_429_are_retried_by_execute(tmp_path, monkeypatch):
    """Statuses clients branch on: 429; 5xx are retried by `execute(num_retries=5)`."""
    from tests.contract.conftest import Site, create_app, serving

    monkeypatch.setattr("googleapiclient.http._should_retry_response", _record_status)
    STATUSES.clear()
    parts = FakeParts(tmp_path)
    parts.settings = parts.settings.model_copy(update={"requests_per_minute": 1})
    with serving(create_app(parts.engine())) as url:
        site = Site(url, parts)
        site.models.list(parent="projects/p").execute()
        request = site.models.list(parent="projects/p")
        request._sleep = lambda seconds: None
        with pytest.raises(Exception, match="Quota exceeded: 1 management requests a minute"):
            request.execute(num_retries=2)
        site.api.close()
    assert STATUSES[-3:] == [429, 429, 429]


STATUSES: list[int] = []


def _record_status(status, content):
    STATUSES.append(int(status))
    return int(status) == 429 or int(status) >= 500
