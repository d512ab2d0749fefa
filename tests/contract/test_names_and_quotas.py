"""Names and quotas: the rules of v1 that hold for every resource."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Site, create_app, serving
from tests.contract.discovery import METHODS
from tests.contract.rows import Table, refused
from tests.fakes.engine import FakeParts

TABLE = Table()
GOOD = ["a", "Z", "a1_B", "a" * 128]
BAD = ["", "1a", "_a", "a-b", "keras-iris", "a.b", "a b", "é", "a" * 129]


@TABLE.row("names: letters, digits, underscore; start with a letter; <=128 chars")
def names(site):
    for good in GOOD:
        site.models.create(parent="projects/p", body={"name": good}).execute()
        site.jobs.create(
            parent="projects/p", body={"jobId": good, "trainingInput": site.training()}
        ).execute()
    model = site.new_model()
    for good in GOOD:
        assert site.deploy(model, good)["response"]["name"] == f"{model}/versions/{good}"
    for bad in BAD:
        body = {"jobId": bad, "trainingInput": site.training()}
        for request, field in (
            (site.models.create(parent="projects/p", body={"name": bad}), "model.name"),
            (site.jobs.create(parent="projects/p", body=body), "job.job_id"),
            (
                site.versions.create(parent=model, body={"name": bad, "deploymentUri": site.uri}),
                "version.name",
            ),
        ):
            error = refused(request)
            assert error.status_code == 400
            assert f"Field: {field} Error: A name should start with a letter" in error.reason


@TABLE.row("names: case-sensitive")
def case(site):
    for name in ("Case", "case"):
        site.models.create(parent="projects/p", body={"name": name}).execute()
    assert site.models.get(name="projects/p/models/Case").execute()["name"] == "projects/p/models/Case"


@TABLE.row("names: unique in project (models, jobs) or in model (versions)")
def unique(site):
    first, second = site.new_model("v1"), site.new_model("v1")
    body = {"name": "v1", "deploymentUri": site.uri}
    assert refused(site.versions.create(parent=first, body=body)).status_code == 409
    name = second.rpartition("/")[2]
    assert refused(site.models.create(parent="projects/p", body={"name": name})).status_code == 409
    job = site.new_job()
    body = {"jobId": job["jobId"], "trainingInput": site.training()}
    assert refused(site.jobs.create(parent="projects/p", body=body)).status_code == 409


@TABLE.row("There is no job delete: a job id is used up for ever in its project")
def no_delete(site):
    assert "ml.projects.jobs.delete" not in METHODS
    job = site.new_job()
    site.parts.backend.finish(job["jobId"], 0)
    site.wait_state(job, "SUCCEEDED")
    body = {"jobId": job["jobId"], "trainingInput": site.training()}
    assert refused(site.jobs.create(parent="projects/p", body=body)).status_code == 409


@TABLE.row("<=100 packageUris")
def packages(site):
    for count, is_good in ((100, True), (101, False)):
        value = site.training(packageUris=[f"gs://graft/{number}.tar.gz" for number in range(count)])
        request = site.jobs.create(
            parent="projects/p", body={"jobId": site.new_name(), "trainingInput": value}
        )
        assert request.execute()["state"] if is_good else refused(request).status_code == 400


@TABLE.row("<=1000 files under deploymentUri")
def files(site):
    uri = site.parts.export("gs://other/large", *(f"v/{number}" for number in range(1000)))
    body = {"name": "v1", "deploymentUri": uri}
    error = refused(site.versions.create(parent=site.new_model(), body=body))
    assert (error.status_code, "has 1001 files; 1000 are allowed" in error.reason) == (400, True)


@pytest.mark.parametrize("check", TABLE.rows)
def test_name_and_quota_rule_holds(check, site):
    check(site)


@pytest.mark.parametrize(
    ("limits", "spend"),
    [
        pytest.param(
            {"job_creations_per_minute": 60},
            lambda site, number: site.new_job(),
            id="jobs.create 60/min",
        ),
        pytest.param(
            {"requests_per_minute": 60},
            lambda site, number: site.models.list(parent="projects/p").execute(),
            id="management 300/min combined",
        ),
        pytest.param({"max_models": 60}, lambda site, number: site.new_model(), id="100 models"),
    ],
)
def test_over_quota_is_429_and_the_client_sees_why(tmp_path, limits, spend):
    parts = FakeParts(tmp_path)
    parts.settings = parts.settings.model_copy(update=limits)
    with serving(create_app(parts.engine())) as url:
        site = Site(url, parts)
        for number in range(60):
            spend(site, number)
        error = refused(_Request(lambda: [spend(site, number) for number in range(60)]))
        site.api.close()
    assert error.status_code == 429
    assert '"RESOURCE_EXHAUSTED"' in error.content.decode()
    assert "60" in error.reason


class _Request:
    def __init__(self, execute) -> None:
        self.execute = execute


def test_versions_and_their_changes_have_quotas_too(tmp_path):
    """200 versions/project; 10 concurrent version-create + delete operations."""
    parts = FakeParts(tmp_path, max_versions=2, max_version_changes=1)
    with serving(create_app(parts.engine())) as url:
        site = Site(url, parts)
        model = site.new_model("v1")
        parts.pool.gate = lambda name: False
        creating = site.versions.create(
            parent=model, body={"name": "v2", "deploymentUri": site.uri}
        ).execute()
        body = {"name": "v3", "deploymentUri": site.uri}
        assert refused(site.versions.create(parent=model, body=body)).status_code == 429
        parts.pool.gate = lambda name: True
        site.wait(creating)
        assert "MAX_VERSIONS" in refused(site.versions.create(parent=model, body=body)).reason
        site.api.close()


def test_a_predict_request_over_the_limit_says_so_in_the_words_of_v1(tmp_path):
    """Predict request: 1,572,864 bytes; `Request payload size exceeds the limit: 1572864 bytes.`"""
    parts = FakeParts(tmp_path, max_body_bytes=1_572_864)
    with serving(create_app(parts.engine())) as url:
        site = Site(url, parts)
        model = site.new_model("v1")
        for size, code in ((1_572_000, 200), (1_573_000, 400)):
            request = site.projects.predict(name=model, body={"instances": ["x" * size]})
            if code == 200:
                assert request.execute()["predictions"]
                continue
            error = refused(request)
            assert error.status_code == code
            assert error.reason == "Request payload size exceeds the limit: 1572864 bytes."
        site.api.close()
