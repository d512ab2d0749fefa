"""The job resource: states, inputs, outputs, logs and cancellation, as the stock client reads them."""

from __future__ import annotations

import time

import pytest

from tests.contract.rows import Table, refused

TABLE = Table()


def running(site, **more):
    return site.wait_state(site.new_job(trainingInput=site.training(**more)), "RUNNING")


def name_of(job):
    return f"projects/p/jobs/{job['jobId']}"


def create(site, **fields):
    return site.jobs.create(parent="projects/p", body={"jobId": site.new_name(), **fields})


def field_of(error):
    assert error.status_code == 400, error
    return error.error_details[0]["fieldViolations"][0]["field"]


@TABLE.row("Fields: jobId*, trainingInput | predictionInput (one)")
def one_input(site):
    site.http.requests_are_valid = False
    for body in ({}, {"trainingInput": site.training(), "predictionInput": site.prediction()}):
        assert field_of(refused(create(site, **body))) == "job"
    assert (
        field_of(refused(site.jobs.create(parent="projects/p", body={"trainingInput": {}}))) == "job.job_id"
    )
    site.http.requests_are_valid = True


@TABLE.row(
    "Fields: createTime, startTime, endTime, state, labels, etag, jobPosition (RO, meaningful in QUEUED)"
)
def fields(site):
    job = site.new_job(labels={"a": "b"}, createTime="2020-01-01T00:00:00Z", state="SUCCEEDED")
    assert job["createTime"] > "2026"
    assert (job["state"], job["jobPosition"]) == ("QUEUED", "1")
    job = site.wait_state(job, "RUNNING")
    assert "jobPosition" not in job
    site.parts.backend.finish(job["jobId"], 0)
    done = site.wait_state(job, "SUCCEEDED")
    assert done["startTime"] < done["endTime"]


@TABLE.row("QUEUED -> PREPARING -> RUNNING -> SUCCEEDED | FAILED")
def life(site):
    for code, state in ((0, "SUCCEEDED"), (1, "FAILED")):
        job = running(site)
        site.parts.backend.finish(job["jobId"], code)
        assert site.wait_state(job, state)["endTime"]


@TABLE.row("any non-terminal --cancel--> CANCELLING -> CANCELLED", "cancel: success {}")
def cancel(site):
    job = running(site)
    assert site.jobs.cancel(name=name_of(job)).execute() == {}
    assert site.jobs.get(name=name_of(job)).execute()["state"] in ("CANCELLING", "CANCELLED")
    site.wait_state(job, "CANCELLED")


@TABLE.row("errorMessage MUST be set for FAILED, CANCELLING and CANCELLED")
def error_message(site):
    failed, cancelled = running(site), running(site)
    site.parts.backend.finish(failed["jobId"], 1)
    assert site.wait_state(failed, "FAILED")["errorMessage"]
    site.jobs.cancel(name=name_of(cancelled)).execute()
    assert site.jobs.get(name=name_of(cancelled)).execute()["errorMessage"]
    assert site.wait_state(cancelled, "CANCELLED")["errorMessage"]


@TABLE.row("`state` must be present in every GET")
def state(site):
    job = site.new_job()
    assert site.jobs.get(name=name_of(job)).execute()["state"]
    assert all(row["state"] for row in site.jobs.list(parent="projects/p").execute()["jobs"])


@TABLE.row("Echo the input verbatim: do not add defaults, reorder or rename inside the echoed object")
def echo(site):
    sent = {
        "region": "r",
        "args": ["--b", "é"],
        "pythonModule": "t.task",
        "packageUris": ["gs://graft/a.tar.gz"],
    }
    job = create(site, trainingInput=sent).execute()
    assert list(job["trainingInput"].items()) == list(sent.items())
    sent = {"python_module": "t.task", "package_uris": ["gs://graft/a.tar.gz"], "job_dir": "gs://graft/j"}
    job = site.jobs.create(parent="projects/p", body={"job_id": site.new_name(), "training_input": sent})
    site.http.answers_are_valid = False  # what is echoed in snake_case is no field of the document
    assert job.execute()["trainingInput"] == sent
    site.http.answers_are_valid = True
    sent = site.prediction("[1]", batchSize="64")
    job = create(site, predictionInput=sent).execute()
    assert list(job["predictionInput"].items()) == list(sent.items())


@TABLE.row("cancel: unknown job 404")
def cancel_unknown(site):
    error = refused(site.jobs.cancel(name="projects/p/jobs/none"))
    assert (error.status_code, error.reason) == (404, "Field: name Error: The specified job was not found.")


@TABLE.row("cancel: job already finished 400")
def cancel_finished(site):
    job = running(site)
    site.parts.backend.finish(job["jobId"], 0)
    site.wait_state(job, "SUCCEEDED")
    assert refused(site.jobs.cancel(name=name_of(job))).status_code == 400


@TABLE.row("create on an existing id: 409, `Field: job.job_id Error: A job with this id already exists.`")
def create_again(site):
    body = {"jobId": site.new_job()["jobId"], "trainingInput": site.training()}
    error = refused(site.jobs.create(parent="projects/p", body=body))
    assert error.status_code == 409
    assert error.reason == "Field: job.job_id Error: A job with this id already exists."
    violation = {"field": "job.job_id", "description": "A job with this id already exists."}
    assert [detail["fieldViolations"] for detail in error.error_details] == [[violation]]


@TABLE.row(
    "Failure text: The replica master 0 exited with a non-zero status of 1. Termination reason: Error. "
    "+ traceback"
)
def failure_text(site):
    job = running(site)
    site.parts.backend.logs[job["jobId"]] = b"Traceback (most recent call last):\nValueError: x"
    site.parts.backend.finish(job["jobId"], 1)
    message = site.wait_state(job, "FAILED")["errorMessage"]
    text = "The replica master 0 exited with a non-zero status of 1. Termination reason: Error."
    assert message.startswith(text)
    assert message.endswith("ValueError: x")


@TABLE.row("scheduling: maxRunningTime default 604800s, measured from RUNNING, then the service cancels")
def max_running_time(site):
    running(site)
    assert site.parts.backend.started[-1].max_running_seconds == 604800
    job = running(site, scheduling={"maxRunningTime": "60.5s"})
    assert site.parts.backend.started[-1].max_running_seconds == 60.5
    site.parts.backend.finish(job["jobId"], 143, timed_out=True)
    assert "maxRunningTime of 60.5 s" in site.wait_state(job, "CANCELLED")["errorMessage"]


@TABLE.row("scheduling: maxWaitTime min 1800s, no default limit; priority 0..1000")
def waiting(site):
    for good in ({"maxWaitTime": "1800s"}, {"priority": 0}, {"priority": 1000}):
        running(site, scheduling=good)
    for bad, field in (({"maxWaitTime": "1799s"}, "max_wait_time"), ({"priority": 1001}, "priority")):
        error = refused(create(site, trainingInput=site.training(scheduling=bad)))
        assert field_of(error) == f"training_input.scheduling.{field}"


@TABLE.row("scaleTier* (BASIC, STANDARD_1, PREMIUM_1, BASIC_GPU, BASIC_TPU, CUSTOM)")
def scale_tier(site):
    for tier, code in {
        "BASIC": 200,
        "BASIC_GPU": 200,
        "STANDARD_1": 501,
        "PREMIUM_1": 501,
        "BASIC_TPU": 501,
    }.items():
        request = create(site, trainingInput=site.training(scaleTier=tier))
        assert request.execute() if code == 200 else refused(request).status_code == code


@TABLE.row("masterType required iff CUSTOM")
def master_type(site):
    create(site, trainingInput=site.training(scaleTier="CUSTOM", masterType="n1-standard-4")).execute()
    for bad in ({"scaleTier": "CUSTOM"}, {"scaleTier": "BASIC", "masterType": "n1"}, {"masterType": "n1"}):
        assert "masterType" in refused(create(site, trainingInput=site.training(**bad))).reason


@TABLE.row(
    "worker/parameterServer/evaluator Type+Count, master/worker/ps/evaluatorConfig, network, serviceAccount, "
    "encryptionConfig, useChiefInTfConfig, enableWebAccess: 501 here, named"
)
def later(site):
    replica = {"imageUri": "gcr.io/x/y"}
    fields = {
        **{f"{kind}Type": "n1" for kind in ("worker", "parameterServer", "evaluator")},
        **{f"{kind}Count": "2" for kind in ("worker", "parameterServer", "evaluator")},
        **{f"{kind}Config": replica for kind in ("master", "worker", "parameterServer", "evaluator")},
        "network": "n",
        "serviceAccount": "a@b",
        "encryptionConfig": {"kmsKeyName": "k"},
        "useChiefInTfConfig": True,
        "enableWebAccess": True,
    }
    for name, value in fields.items():
        error = refused(create(site, trainingInput=site.training(**{name: value})))
        assert error.status_code == 501
        assert error.reason.startswith("Field: training_input.")
    create(site, trainingInput=site.training(enableWebAccess=False)).execute()


@TABLE.row("packageUris (required with pythonModule); pythonModule; args[]; jobDir")
def packages(site):
    running(site, args=["--a", "1"], jobDir="gs://graft/out")
    started = site.parts.backend.started[-1]
    assert (started.python_module, started.args, started.job_dir) == (
        "trainer.task",
        ("--a", "1"),
        "gs://graft/out",
    )
    value = site.training()
    del value["packageUris"]
    assert field_of(refused(create(site, trainingInput=value))) == "training_input.package_uris"


@TABLE.row('pythonVersion ("required" today, but H1 omits it: accept absence); runtimeVersion')
def versions(site):
    for good in ({}, {"runtimeVersion": "2.21"}, {"runtimeVersion": "2.21", "pythonVersion": "3.11"}):
        create(site, trainingInput=site.training(**good)).execute()
    for bad, name in (
        ({"runtimeVersion": "1.2"}, "runtime_version"),
        ({"pythonVersion": "2.7"}, "python_version"),
    ):
        assert field_of(refused(create(site, trainingInput=site.training(**bad)))) == f"training_input.{name}"


@TABLE.row(
    'Reference request to stay compatible with (H1): {"jobId":"mlmagic__<unix>","trainingInput":{...}}'
)
def reference(site):
    body = {
        "jobId": f"mlmagic__{time.time_ns()}",
        "trainingInput": {
            "scaleTier": "BASIC",
            "packageUris": ["gs://graft/trainer-0.0.0.tar.gz"],
            "pythonModule": "trainer.task",
            "region": "us-central1",
            "runtimeVersion": "2.21",
        },
    }
    site.wait_state(site.jobs.create(parent="projects/p", body=body).execute(), "RUNNING")


@TABLE.row("predictionInput: dataFormat (JSON; TEXT = deprecated alias of JSON; TF_RECORD; TF_RECORD_GZIP)")
def data_format(site):
    for kind in ("JSON", "TEXT"):
        site.wait_state(
            create(site, predictionInput=site.prediction("[1]", dataFormat=kind)).execute(), "SUCCEEDED"
        )
    for kind in ("TF_RECORD", "TF_RECORD_GZIP"):
        assert refused(create(site, predictionInput=site.prediction(dataFormat=kind))).status_code == 501


@TABLE.row("inputPaths[] (one trailing `*` allowed)")
def input_paths(site):
    for paths in (["gs://other/a*b"], ["/etc/passwd"], []):
        error = refused(create(site, predictionInput=site.prediction(inputPaths=paths)))
        assert field_of(error).startswith("prediction_input.input_paths")


@TABLE.row("outputDataFormat JSON|CSV")
def output_format(site):
    value = site.prediction("[1]", outputDataFormat="JSON")
    site.wait_state(create(site, predictionInput=value).execute(), "SUCCEEDED")
    assert refused(create(site, predictionInput=site.prediction(outputDataFormat="CSV"))).status_code == 501


@TABLE.row("exactly one of {modelName | versionName | uri} as full resource names")
def target(site):
    model = site.new_model("v1")
    for good in ({"modelName": model}, {"versionName": f"{model}/versions/v1"}):
        job = create(site, predictionInput=site.prediction("[1]", **good)).execute()
        assert site.wait_state(job, "SUCCEEDED")["predictionOutput"]["predictionCount"] == "1"
    for bad in ({"modelName": model, "uri": site.uri}, {"modelName": "m"}, {"versionName": "v1"}):
        assert field_of(refused(create(site, predictionInput=site.prediction(**bad)))).startswith(
            "prediction_input"
        )


@TABLE.row('signatureName (default serving_default), maxWorkerCount "10", batchSize "64"')
def sizes(site):
    absent = {"maxWorkerCount": "0", "batchSize": "0"}  # proto3 does not tell 0 from an absent field
    for good in ({"maxWorkerCount": "10", "batchSize": "64"}, {"signatureName": "serving_default"}, absent):
        create(site, predictionInput=site.prediction("[1]", **good)).execute()
    for bad in ({"maxWorkerCount": "-1"}, {"batchSize": "-1"}, {"batchSize": "many"}):
        site.http.requests_are_valid = False
        assert field_of(refused(create(site, predictionInput=site.prediction(**bad))))
        site.http.requests_are_valid = True


@TABLE.row("predictionOutput{outputPath, predictionCount, errorCount, nodeHours}")
def prediction_output(site):
    job = create(site, predictionInput=site.prediction("[1]", '"bad"', "[2]")).execute()
    output = site.wait_state(job, "SUCCEEDED")["predictionOutput"]
    assert output["outputPath"] == job["predictionInput"]["outputPath"]
    assert (output["predictionCount"], output["errorCount"]) == ("2", "1")
    assert output["nodeHours"] >= 0


@TABLE.row("Files: prediction.results-NNNNN-of-NNNNN and prediction.errors_stats-00000-of-00001, JSON lines")
def files(site):
    job = create(site, predictionInput=site.prediction("[1]", '"bad"')).execute()
    site.wait_state(job, "SUCCEEDED")
    folder = job["predictionInput"]["outputPath"]
    names = [uri.rpartition("/")[2] for uri in site.parts.storage.list_uris(f"{folder}/")]
    assert names == ["prediction.errors_stats-00000-of-00001", "prediction.results-00000-of-00001"]


@pytest.mark.parametrize("check", TABLE.rows)
def test_job_rule_holds(check, site):
    check(site)
