"""The model, version and operation resources, as the stock client reads them."""

from __future__ import annotations

import base64
import time

import pytest

from tests.contract.rows import Table, refused

TABLE = Table()


def create(site, model, **fields):
    body = {"name": "v1", "deploymentUri": site.uri, **fields}
    return site.versions.create(parent=model, body=body)


@TABLE.row("Model{name*, description, regions[1] default us-central1, labels, etag}")
def model_fields(site):
    model = site.models.get(name=site.new_model()).execute()
    assert model["regions"] == ["us-central1"]
    assert base64.b64decode(model["etag"])
    two = site.models.create(parent="projects/p", body={"name": site.new_name(), "regions": ["a", "b"]})
    assert refused(two).status_code == 400


@TABLE.row("Model{defaultVersion (RO, absent while no version)}")
def default_version(site):
    body = {"name": site.new_name(), "defaultVersion": {"name": "v9"}}
    model = site.models.create(parent="projects/p", body=body).execute()
    assert "defaultVersion" not in model
    site.deploy(model["name"], "v1")
    assert site.models.get(name=model["name"]).execute()["defaultVersion"]["isDefault"] is True


@TABLE.row("Model{onlinePredictionLogging, onlinePredictionConsoleLogging}")
def logging_fields(site):
    flags = {"onlinePredictionLogging": True, "onlinePredictionConsoleLogging": False}
    model = site.models.create(parent="projects/p", body={"name": site.new_name(), **flags}).execute()
    assert {key: model[key] for key in flags} == flags


@TABLE.row(
    "Version{name*, description, isDefault (RO), createTime, runtimeVersion*, pythonVersion*, labels, etag}"
)
def version_fields(site):
    given = {"description": "d", "runtimeVersion": "2.21", "pythonVersion": "3.11", "labels": {"a": "b"}}
    version = site.deploy(site.new_model(), "v1", **given, isDefault=False)["response"]
    assert {key: version[key] for key in given} == given
    assert version["isDefault"] is True
    assert {"createTime", "etag"} <= set(version)


@TABLE.row("Version{deploymentUri (required unless container)}")
def deployment_uri(site):
    error = refused(site.versions.create(parent=site.new_model(), body={"name": "v1"}))
    assert error.error_details[0]["fieldViolations"][0]["field"] == "version.deployment_uri"


@TABLE.row("Version{lastUseTime}")
def last_use_time(site):
    name = f"{site.new_model('v1')}/versions/v1"
    assert "lastUseTime" not in site.versions.get(name=name).execute()
    site.projects.predict(name=name, body={"instances": ["x"]}).execute()
    version = site.versions.get(name=name).execute()
    assert version["lastUseTime"] >= version["createTime"]
    site.versions.list(parent=name.partition("/versions")[0]).execute()


@TABLE.row("Version{framework TENSORFLOW|SCIKIT_LEARN|XGBOOST}")
def framework(site):
    version = site.deploy(site.new_model(), "v1", framework="TENSORFLOW")["response"]
    assert version["framework"] == "TENSORFLOW"
    for name in ("SCIKIT_LEARN", "XGBOOST"):
        error = refused(create(site, site.new_model(), framework=name))
        assert (error.status_code, name in error.reason) == (501, True)


@TABLE.row("Version{machineType}")
def machine_type(site):
    version = site.deploy(site.new_model(), "v1", machineType="n1-standard-2")["response"]
    assert version["machineType"] == "n1-standard-2"


@TABLE.row(
    "Version{autoScaling{minNodes,maxNodes,metrics[]} xor manualScaling{nodes}}",
    "minNodes: default 0 on MLS1",
)
def scaling(site):
    auto = {"minNodes": 1, "maxNodes": 3, "metrics": [{"name": "CPU_USAGE", "target": 60}]}
    assert site.deploy(site.new_model(), "v1", autoScaling=auto)["response"]["autoScaling"] == auto
    manual = {"nodes": 2}
    assert site.deploy(site.new_model(), "v1", manualScaling=manual)["response"]["manualScaling"] == manual
    error = refused(create(site, site.new_model(), manualScaling=manual, autoScaling=auto))
    assert (error.status_code, "exclude each other" in error.reason) == (400, True)
    name = f"{site.new_model('v1')}/versions/v1"
    assert "autoScaling" not in site.versions.get(name=name).execute()


@TABLE.row(
    "Version{packageUris + predictionClass, acceleratorConfig, container/routes, serviceAccount, "
    "explanationConfig}: 501 here, named"
)
def later(site):
    fields = {
        "packageUris": ["gs://graft/a.tar.gz"],
        "predictionClass": "a.B",
        "acceleratorConfig": {"count": "1", "type": "NVIDIA_TESLA_T4"},
        "container": {"image": "i"},
        "routes": {"predict": "/p"},
        "serviceAccount": "a@b",
        "explanationConfig": {"xraiAttribution": {"numIntegralSteps": 2}},
    }
    model = site.new_model()
    for name, value in fields.items():
        error = refused(create(site, model, **{name: value}))
        assert (error.status_code, error.reason.startswith("Field: version.")) == (501, True)


@TABLE.row("Version{requestLoggingConfig (patch only)}")
def request_logging(site):
    log = {"bigqueryTableName": "p.d.t", "samplingPercentage": 0.5}
    model = site.new_model()
    assert "requestLoggingConfig" not in site.deploy(model, "v1", requestLoggingConfig=log)["response"]
    name = f"{model}/versions/v1"
    body = {"requestLoggingConfig": log}
    answer = site.versions.patch(name=name, body=body, updateMask="requestLoggingConfig").execute()
    assert site.wait(answer)["response"]["requestLoggingConfig"] == log
    bad = {"requestLoggingConfig": {**log, "samplingPercentage": 1.5}}
    assert (
        refused(site.versions.patch(name=name, body=bad, updateMask="requestLoggingConfig")).status_code
        == 400
    )
    cleared = site.versions.patch(name=name, body={}, updateMask="requestLoggingConfig").execute()
    assert "requestLoggingConfig" not in cleared["response"]


@TABLE.row(
    "Version.state: UNKNOWN, CREATING, READY, FAILED, UPDATING, DELETING",
    "Update/Delete while CREATING/UPDATING/DELETING fail",
)
def states(site):
    model = site.new_model()
    site.parts.pool.gate = lambda name: not name.startswith(model.rpartition("/")[2])
    operation = create(site, model).execute()
    name = f"{model}/versions/v1"
    assert site.versions.get(name=name).execute()["state"] == "CREATING"
    assert refused(site.versions.delete(name=name)).status_code == 400
    change = site.versions.patch(name=name, body={"description": "d"}, updateMask="description")
    assert refused(change).status_code == 400
    assert refused(site.versions.setDefault(name=name)).status_code == 400
    site.parts.pool.gate = lambda name: True
    site.wait(operation)
    assert site.versions.get(name=name).execute()["state"] == "READY"


@TABLE.row("Artifacts are copied at create; later changes in deploymentUri must not matter")
def copied(site):
    model = site.new_model()
    uri = site.parts.export(f"gs://other/{site.new_name()}", "variables/a")
    site.deploy(model, "v1", deploymentUri=uri)
    site.parts.storage.delete_tree(uri)
    folder = f"gs://graft/models/{model.rpartition('/')[2]}/v1"
    assert site.parts.storage.list_uris(f"{folder}/") == [f"{folder}/saved_model.pb", f"{folder}/variables/a"]
    assert site.versions.get(name=f"{model}/versions/v1").execute()["deploymentUri"] == uri


@TABLE.row("First *deployed* version becomes default by itself; later ones never do")
def first_is_default(site):
    model = site.new_model()
    broken = site.parts.export(f"gs://other/{site.new_name()}", "broken")
    assert "error" in site.deploy(model, "v0", deploymentUri=broken)
    for name in ("v1", "v2"):
        site.deploy(model, name)
    assert site.models.get(name=model).execute()["defaultVersion"]["name"] == f"{model}/versions/v1"


@TABLE.row("name in GET/LIST is the full resource name")
def full_names(site):
    model = site.new_model("v1")
    name = f"{model}/versions/v1"
    assert site.versions.get(name=name).execute()["name"] == name
    assert [version["name"] for version in site.versions.list(parent=model).execute()["versions"]] == [name]
    assert site.models.get(name=model).execute()["name"] == model


@TABLE.row("Refusals: bad SavedModel dir = FAILED_PRECONDITION `Field: version.deployment_uri Error: ...`")
def bad_directory(site):
    error = refused(create(site, site.new_model(), deploymentUri="gs://other/nothing"))
    assert (error.status_code, '"FAILED_PRECONDITION"' in error.content.decode()) == (400, True)
    assert error.reason.startswith("Field: version.deployment_uri Error: ")
    text = "exactly one of the following: 'saved_model.pb' file or 'saved_model.pbtxt' file."
    assert f"is expected to contain {text}" in error.reason


@TABLE.row(
    "load error surfaces in the operation: `Create Version failed. Bad model detected with error: ...`"
)
def bad_model(site):
    model = site.new_model()
    broken = site.parts.export(f"gs://other/{site.new_name()}", "broken")
    error = site.deploy(model, "v1", deploymentUri=broken)["error"]
    reason = '"Failed to load model: broken (Error code: 0)"'
    assert error["message"] == f"Create Version failed. Bad model detected with error: {reason}"
    version = site.versions.get(name=f"{model}/versions/v1").execute()
    assert (version["state"], version["errorMessage"]) == ("FAILED", error["message"])


@TABLE.row("Delete default while others remain: clients expect 400. Delete missing: 404")
def delete_rules(site):
    model = site.new_model("v1", "v2")
    assert refused(site.versions.delete(name=f"{model}/versions/v1")).status_code == 400
    assert refused(site.versions.delete(name=f"{model}/versions/v9")).status_code == 404
    assert refused(site.models.delete(name="projects/p/models/none")).status_code == 404
    for name in ("v2", "v1"):
        site.wait(site.versions.delete(name=f"{model}/versions/{name}").execute())


@TABLE.row(
    "Operation{name, metadata{@type, createTime, startTime, endTime, operationType, modelName, version, ...}}"
)
def operation_fields(site):
    model = site.new_model()
    operation = site.deploy(model, "v1", labels={"a": "b"})
    metadata = operation["metadata"]
    assert operation["name"].startswith("projects/p/operations/")
    assert metadata["@type"] == "type.googleapis.com/google.cloud.ml.v1.OperationMetadata"
    assert metadata["createTime"] <= metadata["startTime"] <= metadata["endTime"]
    assert (metadata["operationType"], metadata["modelName"]) == ("CREATE_VERSION", model)
    assert (metadata["version"]["name"], metadata["labels"]) == (f"{model}/versions/v1", {"a": "b"})
    assert metadata["projectNumber"].isdecimal()


@TABLE.row(
    "On done without error `response` must exist",
    "Airflow treats a non-null `error` as failure before `done`",
)
def outcomes(site):
    model = site.new_model()
    good = site.deploy(model, "v1")
    assert ("error" in good, "response" in good) == (False, True)
    broken = site.parts.export(f"gs://other/{site.new_name()}", "broken")
    bad = site.deploy(model, "v2", deploymentUri=broken)
    assert (bad["done"], "error" in bad, "response" in bad) == (True, True, False)


@TABLE.row("finish local operations well under ~8.5 min")
def speed(site):
    started = time.monotonic()
    site.deploy(site.new_model(), "v1")
    assert time.monotonic() - started < 20


@TABLE.row("cancel of an operation: best effort; it ends with error code 1 (CANCELLED)")
def cancel(site):
    model = site.new_model()
    site.parts.pool.gate = lambda name: not name.startswith(model.rpartition("/")[2])
    operation = create(site, model).execute()
    assert site.operations.cancel(name=operation["name"]).execute() == {}
    done = site.wait(operation)
    site.parts.pool.gate = lambda name: True
    assert (done["error"]["code"], done["metadata"]["isCancellationRequested"]) == (1, True)
    assert site.versions.get(name=f"{model}/versions/v1").execute()["state"] == "FAILED"


@pytest.mark.parametrize("check", TABLE.rows)
def test_model_rule_holds(check, site):
    check(site)
