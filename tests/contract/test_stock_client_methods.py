"""Every method of v1, called by the stock client."""

from __future__ import annotations

import pytest

from tests.contract.discovery import METHODS
from tests.contract.rows import Table, refused

TABLE = Table()
OPERATION = "GoogleLongrunning__Operation"


def first(site, **fields):
    job = site.new_job(**fields)
    return job, f"projects/p/jobs/{job['jobId']}"


@TABLE.row("POST v1/projects/{p}/jobs | Job, state QUEUED, synchronous")
def jobs_create(site):
    job = site.new_job(labels={"a": "b"})
    assert (job["state"], job["labels"]) == ("QUEUED", {"a": "b"})
    assert {"jobId", "trainingInput", "createTime", "etag", "jobPosition"} <= set(job)


@TABLE.row("GET v1/projects/{p}/jobs/{j} | Job")
def jobs_get(site):
    job, name = first(site)
    assert site.jobs.get(name=name).execute()["jobId"] == job["jobId"]


@TABLE.row("GET v1/projects/{p}/jobs?filter&pageSize&pageToken | {jobs,nextPageToken}; nothing found = {}")
def jobs_list(site):
    label = site.new_name()
    names = {site.new_job(labels={label: "x"})["jobId"] for _ in range(3)}
    request = site.jobs.list(parent="projects/p", filter=f"labels:{label}", pageSize=2)
    pages = []
    while request is not None:
        page = request.execute()
        pages.append([job["jobId"] for job in page["jobs"]])
        request = site.jobs.list_next(request, page)
    assert ([len(page) for page in pages], set(sum(pages, []))) == ([2, 1], names)
    assert site.jobs.list(parent="projects/p", filter="jobId:no*").execute() == {}


@TABLE.row("PATCH v1/projects/{p}/jobs/{j}?updateMask=labels[,etag] | Job (etag match then recalculated)")
def jobs_patch(site):
    job, name = first(site)
    body = {"labels": {"owner": "me"}, "etag": job["etag"]}
    after = site.jobs.patch(name=name, body=body, updateMask="labels,etag").execute()
    assert (after["labels"], after["etag"] != job["etag"]) == ({"owner": "me"}, True)
    stale = site.jobs.patch(name=name, body=body, updateMask="labels,etag")
    assert refused(stale).status_code == 409
    assert refused(site.jobs.patch(name=name, body={"jobId": "x"}, updateMask="jobId")).status_code == 400


@TABLE.row("POST v1/projects/{p}/jobs/{j}:cancel | {}")
def jobs_cancel(site):
    _, name = first(site)
    assert site.jobs.cancel(name=name, body={}).execute() == {}


@TABLE.row("POST v1/projects/{p}/models | Model (synchronous, not an operation)")
def models_create(site):
    name = site.new_name()
    body = {"name": name, "regions": ["us-central1"], "onlinePredictionLogging": True, "labels": {"a": "b"}}
    model = site.models.create(parent="projects/p", body=body).execute()
    assert model.pop("etag")
    assert model == {**body, "name": f"projects/p/models/{name}"}


@TABLE.row("GET/LIST v1/projects/{p}/models[/m] | Model / {models,nextPageToken} / {}")
def models_get(site):
    name = site.new_model()
    model = site.models.get(name=name).execute()
    assert model["name"] == name
    found = site.models.list(parent="projects/p", filter=f"name:{name}").execute()
    assert found["models"] == [model]
    assert site.models.list(parent="projects/p", filter="name:none").execute() == {}
    site.new_model()
    page = site.models.list(parent="projects/p", pageSize=1).execute()
    assert site.models.list_next(site.models.list(parent="projects/p", pageSize=1), page).execute()["models"]


@TABLE.row(
    "PATCH v1/projects/{p}/models/{m}?updateMask=description|default_version.name | Operation UPDATE_MODEL"
)
def models_patch(site):
    model = site.new_model("v1", "v2")
    body = {"description": "d", "defaultVersion": {"name": "v2"}}
    request = site.models.patch(name=model, body=body, updateMask="description,default_version.name")
    operation = site.wait(request.execute())
    assert operation["metadata"]["operationType"] == "UPDATE_MODEL"
    found = site.models.get(name=model).execute()
    assert (found["description"], found["defaultVersion"]["name"]) == ("d", f"{model}/versions/v2")


@TABLE.row("DELETE v1/projects/{p}/models/{m} | Operation DELETE_MODEL; refused while versions exist")
def models_delete(site):
    model = site.new_model("v1")
    assert refused(site.models.delete(name=model)).status_code == 400
    site.wait(site.versions.delete(name=f"{model}/versions/v1").execute())
    operation = site.wait(site.models.delete(name=model).execute())
    assert operation["metadata"]["operationType"] == "DELETE_MODEL"
    assert refused(site.models.get(name=model)).status_code == 404


@TABLE.row("POST v1/projects/{p}/models/{m}/versions | Operation CREATE_VERSION")
def versions_create(site):
    operation = site.deploy(site.new_model(), "v1")
    assert operation["metadata"]["operationType"] == "CREATE_VERSION"
    assert operation["response"]["state"] == "READY"


@TABLE.row("GET/LIST .../versions[/v] | Version / {versions,nextPageToken} / {}")
def versions_get(site):
    model = site.new_model()
    assert site.versions.list(parent=model).execute() == {}
    for name in ("v1", "v2"):
        site.deploy(model, name)
    request = site.versions.list(parent=model, pageSize=1)
    page = request.execute()
    rest = site.versions.list_next(request, page).execute()
    assert [*page["versions"], *rest["versions"]] == [
        site.versions.get(name=f"{model}/versions/{name}").execute() for name in ("v1", "v2")
    ]
    found = site.versions.list(parent=model, filter="name:v2 AND state:READY").execute()["versions"]
    assert [version["name"] for version in found] == [f"{model}/versions/v2"]


@TABLE.row(
    "PATCH .../versions/{v}?updateMask=description|requestLoggingConfig|autoScaling.minNodes|"
    "manualScaling.nodes | Operation UPDATE_VERSION"
)
def versions_patch(site):
    name = f"{site.new_model('v1')}/versions/v1"
    log = {"bigqueryTableName": "p.d.t", "samplingPercentage": 1}
    body = {"description": "d", "requestLoggingConfig": log, "autoScaling": {"minNodes": 1}}
    mask = "description,requestLoggingConfig,autoScaling.minNodes"
    operation = site.wait(site.versions.patch(name=name, body=body, updateMask=mask).execute())
    assert operation["metadata"]["operationType"] == "UPDATE_VERSION"
    found = site.versions.get(name=name).execute()
    assert {key: found[key] for key in body} == body
    other = f"{site.new_model('v1')}/versions/v1"
    request = site.versions.patch(
        name=other, body={"manualScaling": {"nodes": 2}}, updateMask="manualScaling.nodes"
    )
    assert site.wait(request.execute())["response"]["manualScaling"] == {"nodes": 2}


@TABLE.row(
    "DELETE .../versions/{v} | Operation DELETE_VERSION; "
    "refused for the default unless it is the only version left"
)
def versions_delete(site):
    model = site.new_model("v1", "v2")
    assert refused(site.versions.delete(name=f"{model}/versions/v1")).status_code == 400
    for name in ("v2", "v1"):
        operation = site.wait(site.versions.delete(name=f"{model}/versions/{name}").execute())
        assert operation["metadata"]["operationType"] == "DELETE_VERSION"
    assert site.versions.list(parent=model).execute() == {}


@TABLE.row("POST .../versions/{v}:setDefault | Version (synchronous)")
def versions_set_default(site):
    model = site.new_model("v1", "v2")
    for more in ({}, {"body": {}}):
        version = site.versions.setDefault(name=f"{model}/versions/v2", **more).execute()
        assert (version["name"], version["isDefault"]) == (f"{model}/versions/v2", True)
    assert "isDefault" not in site.versions.get(name=f"{model}/versions/v1").execute()


@TABLE.row("POST v1/{name=projects/**}:predict | raw HttpBody")
def predict(site):
    model = site.new_model("v1", "v2")
    for name, version in ((model, "v1"), (f"{model}/versions/v2", "v2")):
        answer = site.projects.predict(name=name, body={"instances": ["x"]}).execute()
        assert answer["predictions"][0]["served_by"].endswith(version)


@TABLE.row("POST v1/{name=projects/**}:explain | may be UNIMPLEMENTED 501")
def explain(site):
    model = site.new_model("v1")
    for name in (model, f"{model}/versions/v1"):
        error = refused(site.projects.explain(name=name, body={}))
        assert (error.status_code, "projects.explain" in error.reason) == (501, True)


@TABLE.row("GET v1/projects/{p}:getConfig | {serviceAccount, serviceAccountProject, config}")
def get_config(site):
    found = site.projects.getConfig(name="projects/p").execute()
    assert set(found) == {"serviceAccount", "serviceAccountProject", "config"}


@TABLE.row(
    "GET/LIST/cancel v1/projects/{p}/operations[/{o}[:cancel]] | Operation / {operations,nextPageToken} / {}"
)
def operations(site):
    model = site.new_model("v1", "v2")
    of_model = f"metadata.modelName:{model}"
    request = site.operations.list(name="projects/p", filter=of_model, pageSize=1)
    page = request.execute()
    rest = site.operations.list_next(request, page).execute()
    listed = [*page["operations"], *rest["operations"]]
    assert [site.operations.get(name=operation["name"]).execute() for operation in listed] == listed
    assert site.operations.cancel(name=listed[0]["name"]).execute() == {}
    assert site.operations.list(name="projects/p", filter="metadata.modelName:none").execute() == {}


@TABLE.row("GET v1/projects/{p}/locations[/{l}] | {locations:[{name,capabilities:[{type}]}]}")
def locations(site):
    resource = site.projects.locations()
    found = resource.list(parent="projects/p").execute()["locations"]
    assert [resource.get(name=location["name"]).execute() for location in found] == found
    kinds = [capability["type"] for capability in found[0]["capabilities"]]
    assert kinds == ["TRAINING", "BATCH_PREDICTION", "ONLINE_PREDICTION"]
    assert refused(resource.get(name="projects/p/locations/mars")).status_code == 404


@TABLE.row("also: jobs/models :getIamPolicy/:setIamPolicy/:testIamPermissions | 501, named")
def iam(site):
    _, job = first(site)
    for resource, name in ((site.jobs, job), (site.models, site.new_model())):
        for request in (
            resource.getIamPolicy(resource=name),
            resource.setIamPolicy(resource=name, body={}),
            resource.testIamPermissions(resource=name, body={}),
        ):
            assert refused(request).status_code == 501


@TABLE.row("also: locations.studies (Vizier) | 501, named")
def studies(site):
    resource = site.projects.locations().studies()
    trials = resource.trials()
    place = "projects/p/locations/local"
    study, trial = f"{place}/studies/s", f"{place}/studies/s/trials/1"
    requests = [
        resource.create(parent=place, body={}),
        resource.get(name=study),
        resource.list(parent=place),
        resource.delete(name=study),
        trials.create(parent=study, body={}),
        trials.get(name=trial),
        trials.list(parent=study),
        trials.delete(name=trial),
        trials.suggest(parent=study, body={}),
        trials.listOptimalTrials(parent=study, body={}),
        trials.complete(name=trial, body={}),
        trials.stop(name=trial, body={}),
        trials.addMeasurement(name=trial, body={}),
        trials.checkEarlyStoppingState(name=trial, body={}),
        site.projects.locations().operations().get(name=f"{place}/operations/o"),
        site.projects.locations().operations().cancel(name=f"{place}/operations/o"),
    ]
    for request in requests:
        error = refused(request)
        assert (error.status_code, error.reason[:18]) == (501, "projects.locations")


@TABLE.row("pageSize default 20, max 100")
def page_size(site):
    label = site.new_name()
    for _ in range(101):
        body = {"name": site.new_name(), "labels": {label: "x"}}
        site.models.create(parent="projects/p", body=body).execute()
    for size, expected in ((None, 20), (0, 20), (100, 100), (1000, 100)):
        page = site.models.list(parent="projects/p", filter=f"labels:{label}", pageSize=size).execute()
        assert (len(page["models"]), "nextPageToken" in page) == (expected, True)


@TABLE.row(
    "Filter grammar seen in the document: jobId:census*", "Filter grammar: jobId:rnn* AND state:FAILED"
)
def filters(site):
    name = site.new_name()
    for number in range(2):
        body = {"jobId": f"rnn{name}_{number}", "trainingInput": site.training()}
        site.wait_state(site.jobs.create(parent="projects/p", body=body).execute(), "RUNNING")
    site.parts.backend.finish(f"rnn{name}_0", 1)
    site.wait_state({"jobId": f"rnn{name}_0"}, "FAILED")
    for text, expected in ((f"jobId:rnn{name}*", 2), (f"jobId:rnn{name}* AND state:FAILED", 1)):
        assert len(site.jobs.list(parent="projects/p", filter=text).execute()["jobs"]) == expected


@TABLE.row("No versions.undelete, no traffic split, no version `promote`")
def nothing_more(site):
    assert {name.rpartition(".")[2] for name in METHODS if ".versions." in name} == {
        "create", "delete", "get", "list", "patch", "setDefault",
    }  # fmt: skip
    url = f"{site.url}/v1/projects/p/models/m/versions/v:promote"
    answer, _ = super(type(site.http), site.http).request(url, "POST")
    assert answer.status in (404, 405)


@pytest.mark.parametrize("check", TABLE.rows)
def test_method_answers_the_stock_client(check, site):
    check(site)


def test_every_method_of_the_discovery_document_was_called_and_answered(site):
    """Comes last; what was not selected is called now."""
    later = {name for name in METHODS if "Iam" in name or ".studies" in name or name.endswith(".explain")}
    later |= {"ml.projects.locations.operations.get", "ml.projects.locations.operations.cancel"}
    if {name for name, _ in site.http.seen} != set(METHODS):
        for row in TABLE.rows:
            row.values[0](site)
    answered = {name for name, status in site.http.seen if status == 200}
    assert answered == set(METHODS) - later
    assert {status for name, status in site.http.seen if name in later} == {501}
