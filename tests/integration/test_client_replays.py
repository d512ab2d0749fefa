"""Jobs of clients of Cloud ML Engine on a real engine, and the rules of prediction on a real model."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys

import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

from tests.contract.discovery import CheckedHttp
from tests.contract.rows import Table, refused
from tests.integration import old_clients
from tests.integration.engine_process import EngineProcess

BUILD = """
import sys, tensorflow as tf

TEXT = tf.TensorSpec([None], tf.string)

class Model(tf.Module):
    @tf.function(input_signature=[TEXT])
    def serve(self, inputs):
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)[:, None]}

    @tf.function(input_signature=[TEXT, TEXT])
    def two(self, key, text_bytes):
        return {"key": key, "echo_bytes": text_bytes, "echo": text_bytes}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def numbers(self, x):
        return {"sum": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[TEXT])
    def uneven(self, inputs):
        return {"all": inputs, "one": inputs[:1]}

model = Model()
names = {"serving_default": model.serve, "two": model.two, "numbers": model.numbers, "uneven": model.uneven}
tf.saved_model.save(model, sys.argv[1], signatures=names)
"""
EXPORT = "gs://graft/exports/model"


class Site:
    """An engine, its client judged by the discovery document, and a program for jobs."""

    def __init__(self, engine: EngineProcess) -> None:
        self.engine = engine
        self.http = CheckedHttp()
        options = {"api_endpoint": engine.url}
        self.api = discovery.build("ml", "v1", http=self.http, client_options=options, static_discovery=True)
        self.projects = self.api.projects()

    def job(self, job_id: str, code: int = 0) -> dict:
        gate = self.engine.home / "open"
        gate.touch()
        return self.engine.training(job_id, gate, code)

    def predict(self, instances: list, **more) -> dict:
        body = {"instances": instances, **more}
        return self.projects.predict(name="projects/local/models/rows", body=body).execute()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with EngineProcess(tmp_path_factory.mktemp("home")) as engine:
        export = engine.home / "buckets" / "graft" / "exports" / "model"
        subprocess.run(
            [sys.executable, "-c", BUILD, str(export)], check=True, capture_output=True, timeout=180
        )
        engine.start()
        site = Site(engine)
        engine.client().models().create(parent="projects/local", body={"name": "rows"}).execute()
        assert engine.deploy("rows", "v1", EXPORT)["response"]["state"] == "READY"
        yield site
        site.api.close()


class TestAirflow:
    @pytest.fixture
    def hook(self, site):
        return old_clients.AirflowHook(site.projects)

    def test_a_training_is_adopted_by_its_id_and_a_failed_one_raises_its_message(self, site, hook):
        job = site.job("airflow_1")
        assert old_clients.airflow_training(hook, job) == "airflow_1"
        assert old_clients.airflow_training(hook, job) == "airflow_1"
        with pytest.raises(RuntimeError, match="a non-zero status of 3. Termination reason: Error."):
            old_clients.airflow_training(hook, site.job("airflow_2", 3))

    def test_cancelling_a_finished_job_is_fine_and_an_unknown_one_raises(self, site, hook):
        old_clients.airflow_training(hook, site.job("airflow_3"))
        assert hook.cancel_job("airflow_3") == {}
        with pytest.raises(HttpError) as error:
            hook.cancel_job("none")
        assert error.value.status_code == 404

    def test_a_batch_prediction_is_reused_only_if_its_input_is_the_same(self, site, hook):
        site.engine.storage.write_bytes("gs://graft/in/a.jsonl", b'"abc"\n"de"\n')
        value = {
            "dataFormat": "TEXT",
            "inputPaths": ["gs://graft/in/*"],
            "outputPath": "gs://graft/out",
            "region": "us-central1",
            "modelName": "projects/local/models/rows",
        }
        job = {"jobId": "airflow_4", "predictionInput": value}
        first = old_clients.airflow_batch_prediction(hook, job)
        assert first["predictionCount"] == "2"
        assert old_clients.airflow_batch_prediction(hook, job) == first
        other = {**job, "predictionInput": {**value, "outputPath": "gs://graft/elsewhere"}}
        with pytest.raises(HttpError) as error:
            old_clients.airflow_batch_prediction(hook, other)
        assert error.value.status_code == 409


class TestKubeflowPipelines:
    def test_a_job_with_the_same_input_is_taken_and_another_is_not(self, site):
        kfp, job = old_clients.Kfp(site.projects), site.job("kfp_1")
        first = kfp.create_job(job)
        assert kfp.create_job(job) == first
        other = {**job, "trainingInput": {**job["trainingInput"], "region": "elsewhere"}}
        with pytest.raises(RuntimeError, match="is another"):
            kfp.create_job(other)


class TestTfx:
    def test_the_trainer_speaks_snake_case(self, site):
        value = site.job("tfx")["trainingInput"]
        names = {
            "packageUris": "package_uris",
            "pythonModule": "python_module",
            "runtimeVersion": "runtime_version",
        }
        snake = {names.get(key, key): item for key, item in value.items()}
        site.http.answers_are_valid = False  # what is echoed in snake_case is no field of the document
        found = old_clients.Tfx(site.projects).train("tfx_1", snake)
        site.http.answers_are_valid = True
        assert found["trainingInput"] == snake
        assert found["labels"] == {"tfx_version": "1-21-0"}


def test_the_article_trains_awaits_and_predicts(site):
    job = site.job("mlmagic__1511111111")
    body = {"jobId": job["jobId"], "trainingInput": {**job["trainingInput"], "scaleTier": "BASIC"}}
    site.projects.jobs().create(parent="projects/local", body=body).execute()
    site.engine.wait_job(job["jobId"], "SUCCEEDED")
    picture = b"\xff\xd8\xff" * 10
    text = base64.urlsafe_b64encode(picture)
    assert old_clients.article_predict(site.projects, "rows", picture) == [{"outputs": [float(len(text))]}]


TABLE = Table()


@TABLE.row("Request: {instances:[...], signature_name (optional), ...extra keys}; `instances` required, list")
def request(site):
    assert site.predict(["a", "bc"], anything=1)["predictions"] == [{"outputs": [1.0]}, {"outputs": [2.0]}]
    for name in ("signature_name", "signatureName"):
        assert site.predict([[1, 2]], **{name: "numbers"})["predictions"] == [{"sum": 3.0}]
    for body in ({}, {"instances": "a"}):
        error = refused(site.projects.predict(name="projects/local/models/rows", body=body))
        assert error.status_code == 400


@TABLE.row("Path with model only = default version; with version = that version")
def paths(site):
    name = "projects/local/models/rows/versions/v1"
    answer = site.projects.predict(name=name, body={"instances": ["a"]}).execute()
    assert answer == site.predict(["a"])


@TABLE.row("Response: {predictions:[...]}, one per instance, same order; or {error}: no partial results")
def response(site):
    assert site.predict([]) == {"predictions": []}
    assert [row["outputs"] for row in site.predict(["a" * n for n in range(5)])["predictions"]] == [
        [float(n)] for n in range(5)
    ]
    assert set(site.predict(["a", 1])) == {"error"}


@TABLE.row(
    "HTTP 200 + {error:..} is returned to the caller as a dict; resource errors use the error envelope"
)
def errors(site):
    assert site.predict([{"wrong": 1}])["error"].startswith("Prediction failed: ")
    for name, code in (("none", 404), ("rows/versions/v9", 404)):
        request = site.projects.predict(name=f"projects/local/models/{name}", body={"instances": []})
        assert refused(request).status_code == code


@TABLE.row("any JSON object whose only key is `b64` becomes bytes, recursively, anywhere")
def b64(site):
    raw = bytes(range(256))
    for text in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        instance = {"key": {"b64": "YQ=="}, "text_bytes": {"b64": text}}
        row = site.predict([{"key": "k", "text_bytes": {"b64": text}}], signature_name="two")
        assert "error" in row  # `echo` holds what is no text
        assert site.predict([instance["key"], {"inputs": {"b64": text}}])["predictions"] == [
            {"outputs": [1.0]},
            {"outputs": [256.0]},
        ]


@TABLE.row("One-input models accept a bare value or {input: value}; wrong key -> Expected tensor name")
def one_input(site):
    assert site.predict(["abc"]) == site.predict([{"inputs": "abc"}])
    assert "Expected tensor name: inputs, got tensor name: ['x']" in site.predict([{"x": "abc"}])["error"]


@TABLE.row("Several inputs: every instance must carry every input; unknown key -> Input mismatch")
def several_inputs(site):
    for instance, text in (
        ({"key": "a"}, "Input text_bytes was missing in at least one input instance."),
        ({"key": "a", "text_bytes": "b", "z": 1}, "Input mismatch: "),
    ):
        assert text in site.predict([instance], signature_name="two")["error"]


@TABLE.row("Run failure -> Prediction failed: Error processing input / Error during model execution")
def run_failure(site):
    for instances in ([["a", 2]], [[1, 2], [1]]):
        error = site.predict(instances, signature_name="numbers")["error"]
        assert re.match("Prediction failed: .*Error (processing input|during model execution)", error)


@TABLE.row("Output: only string outputs whose alias ends in `_bytes` are re-encoded as {b64:..}")
def outputs(site):
    answer = site.predict([{"key": "k", "text_bytes": "é"}], signature_name="two")
    encoded = base64.b64encode("é".encode()).decode()
    assert answer["predictions"] == [{"key": "k", "echo_bytes": {"b64": encoded}, "echo": "é"}]


@TABLE.row("Different batch sizes in outputs = error")
def uneven(site):
    assert "rows for 2 instances" in site.predict(["a", "b"], signature_name="uneven")["error"]


@TABLE.row("Error codes: default signature")
def signature(site):
    error = site.predict(["a"], signature_name="none")["error"]
    assert all(name in error for name in ("serving_default", "two", "numbers"))


@TABLE.row("The notebook does not use `b64` objects: pass that string through untouched")
def untouched(site):
    text = base64.urlsafe_b64encode(bytes(range(250))).decode()
    assert (
        site.predict([{"key": text, "text_bytes": text}], signature_name="two")["predictions"][0]["key"]
        == text
    )


@pytest.mark.parametrize("check", TABLE.rows)
def test_prediction_keeps(check, site):
    check(site)


def test_the_answers_are_json_that_any_client_reads(site):
    answer, content = super(CheckedHttp, site.http).request(
        f"{site.engine.url}/v1/projects/local/models/rows:predict", "POST", json.dumps({"instances": ["a"]})
    )
    assert answer["content-type"] == "application/json"
    assert json.loads(content) == {"predictions": [{"outputs": [1.0]}]}
