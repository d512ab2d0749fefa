"""Real SavedModels behind a real engine, spoken to by the stock client."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from googleapiclient.errors import HttpError
from PIL import Image

from tests.fakes.clock import wait_for
from tests.fakes.pictures import encode
from tests.integration.engine_process import EngineProcess

BUILD = """
import sys, tensorflow as tf

TEXT = tf.TensorSpec([None], tf.string)

class Foreign(tf.Module):
    def __init__(self):
        self.weights = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def multiply(self, x):
        return {"y": x @ self.weights}

    @tf.function(input_signature=[TEXT, TEXT])
    def echo(self, key, text):
        return {"key": key, "echo_bytes": text, "length": tf.strings.length(text)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2, 2], tf.float32),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.bool),
        ]
    )
    def mixed(self, grid, number, flag):
        return {"total": tf.reduce_sum(grid, [1, 2]), "grid": grid, "next": number + 1, "not": ~flag}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def uneven(self, x):
        return {"whole": x, "first": x[:1]}

    @tf.function(input_signature=[TEXT])
    def names(self, inputs):
        return {"plain": inputs, "pair_bytes": tf.stack([inputs, inputs], 1)}

class Article(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1], tf.string)])
    def serve(self, inputs):  # the reference notebook's: a batch of one, which the graph decodes
        return {"outputs": tf.cast(tf.strings.length(tf.io.decode_base64(inputs)), tf.float32)[:, None]}

class Ours(tf.Module):
    @tf.function(input_signature=[TEXT])
    def serve(self, inputs):
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)[:, None]}

    @tf.function(input_signature=[TEXT, TEXT])
    def keyed(self, key, inputs):
        return {"key": key, **self.serve(inputs)}

def save(model, name, **signatures):
    tf.saved_model.save(model, sys.argv[1] + "/" + name, signatures=signatures)

foreign, ours = Foreign(), Ours()
more = {"echo": foreign.echo, "mixed": foreign.mixed, "uneven": foreign.uneven, "names": foreign.names}
save(foreign, "foreign", serving_default=foreign.multiply, **more)
article = Article()
save(article, "article", serving_default=article.serve)
save(ours, "ours", serving_default=ours.serve, keyed=ours.keyed)
"""
NAME = "projects/local/models/"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with EngineProcess(home) as engine:
        exports = home / "buckets" / "graft" / "exports"
        subprocess.run(
            [sys.executable, "-c", BUILD, str(exports)], check=True, capture_output=True, timeout=120
        )
        engine.storage.write_bytes("gs://graft/exports/ours/graft/labels.json", b"[]")
        engine.start()
        for model in ("foreign", "ours"):
            engine.client().models().create(parent="projects/local", body={"name": model}).execute()
            assert engine.deploy(model, "v1", f"gs://graft/exports/{model}")["response"]["state"] == "READY"
        yield engine


def predict(engine: EngineProcess, name: str, instances: list, *, retries: int = 0, **more) -> dict:
    body = {"instances": instances, **more}
    return engine.client().predict(name=NAME + name, body=body).execute(num_retries=retries)


def picture(size: tuple[int, int] = (40, 30), kind: str = "JPEG") -> bytes:
    return encode(Image.new("RGB", size, (10, 200, 30)), kind)


def workers(pid: int) -> list[psutil.Process]:
    return [
        child for child in psutil.Process(pid).children() if "serving.worker" in " ".join(child.cmdline())
    ]


class TestForeignModels:
    def test_one_input_takes_bare_values_and_objects(self, engine):
        assert predict(engine, "foreign", [[1, 2], {"x": [0, 1]}]) == {
            "predictions": [{"y": [7.0, 10.0]}, {"y": [3.0, 4.0]}]
        }

    def test_bytes_strings_and_another_signature(self, engine):
        instances = [{"key": "a", "text": {"b64": "_-8="}}, {"key": "b", "text": "é"}]
        assert predict(engine, "foreign/versions/v1", instances, signature_name="echo")["predictions"] == [
            {"key": "a", "echo_bytes": {"b64": "/+8="}, "length": 2},
            {"key": "b", "echo_bytes": {"b64": "w6k="}, "length": 2},
        ]

    def test_inputs_of_any_rank_and_type_come_back_as_json(self, engine):
        instances = [{"grid": [[1, 2], [3, 4]], "number": 2**53 + 1, "flag": True} for _ in range(2)]
        row = {"total": 10.0, "grid": [[1.0, 2.0], [3.0, 4.0]], "next": 2**53 + 2, "not": False}
        assert predict(engine, "foreign", instances, signature_name="mixed") == {"predictions": [row, row]}

    def test_only_outputs_named_bytes_are_base64_at_any_depth(self, engine):
        answer = predict(engine, "foreign", [{"b64": "YQ=="}, "é"], signature_name="names")["predictions"]
        assert answer == [
            {"plain": "a", "pair_bytes": [{"b64": "YQ=="}, {"b64": "YQ=="}]},
            {"plain": "é", "pair_bytes": [{"b64": "w6k="}, {"b64": "w6k="}]},
        ]

    def test_the_model_of_the_article_gets_its_string_untouched(self, engine):
        engine.client().models().create(parent="projects/local", body={"name": "article"}).execute()
        assert engine.deploy("article", "v1", "gs://graft/exports/article")["response"]["state"] == "READY"
        encoded = base64.urlsafe_b64encode(b"\xff" * 7).decode().rstrip("=")
        assert predict(engine, "article", [{"inputs": encoded}]) == {"predictions": [{"outputs": [7.0]}]}
        assert "Error during model execution" in predict(engine, "article", ["no base64!"])["error"]

    @pytest.mark.parametrize(
        ("instances", "more", "text"),
        [
            ([["a", 2]], {}, "Error processing input"),
            ([[1, 2], [3, 4]], {"signature_name": "uneven"}, "Output first has 1 rows for 2 instances"),
            ([{"b64": "/w=="}], {"signature_name": "names"}, "Output plain holds bytes that are not UTF-8"),
            ([{"grid": 1}], {"signature_name": "mixed"}, "was missing in at least one input instance"),
            ([[1, 2], [1]], {}, "Error processing input"),
            ([[1, 2, 3]], {}, "Error during model execution"),
            ([{"z": 1}], {}, "Expected tensor name: x, got tensor name"),
            ([[1, 2]], {"signature_name": "none"}, "it has echo, mixed, names, serving_default, uneven"),
        ],
    )
    def test_what_cannot_be_predicted_is_a_200_with_the_reason(self, engine, instances, more, text):
        answer = predict(engine, "foreign", instances, **more)
        assert set(answer) == {"error"}
        assert answer["error"].startswith("Prediction failed: ")
        assert text in answer["error"]

    def test_strings_that_are_no_pictures_are_their_own_business(self, engine):
        answer = predict(engine, "foreign", [{"key": "a", "text": "no picture"}], signature_name="echo")
        assert answer["predictions"][0]["length"] == 10


class TestOurModels:
    def test_the_client_code_of_the_article(self, engine):
        text = base64.urlsafe_b64encode(picture()).decode()
        answer = engine.client().predict(name=NAME + "ours", body={"instances": [{"inputs": text}]}).execute()
        assert answer == {"predictions": [{"outputs": [float(len(text))]}]}

    def test_a_bad_picture_is_named_by_its_index_and_nothing_is_predicted(self, engine):
        good = {"b64": base64.b64encode(picture()).decode()}
        bad = {"b64": base64.b64encode(picture()[:-200]).decode()}
        for instances in ([good, bad, good], [{"inputs": good}, {"inputs": bad}]):
            answer = predict(engine, "ours", instances)
            assert set(answer) == {"error"}
            assert "instance 1: " in answer["error"]
        assert "instance 0: " in predict(engine, "ours", ["no picture!"])["error"]

    def test_a_request_of_nine_megabytes_passes_and_one_of_eleven_is_refused(self, engine):
        picture_text = base64.b64encode(picture(kind="PNG")).decode()
        answer = predict(
            engine, "foreign", [{"key": picture_text, "text": "a" * 9_000_000}], signature_name="echo"
        )
        assert answer["predictions"][0]["length"] == 9_000_000
        with pytest.raises(HttpError, match="Request payload size exceeds the limit: 10000000 bytes"):
            predict(engine, "foreign", ["a" * 11_000_000])


class TestBatchPrediction:
    def run(
        self, engine: EngineProcess, job_id: str, lines: list[str], **target: str
    ) -> tuple[dict, list[dict], str]:
        folder = f"gs://graft/batch/{job_id}"
        half = len(lines) // 2
        for number, part in enumerate((lines[:half], lines[half:])):
            text = "".join(f"{line}\n" for line in part)
            engine.storage.write_bytes(f"{folder}/in/part-{number}.jsonl", text.encode())
        value = {
            "dataFormat": "JSON",
            "inputPaths": [f"{folder}/in/part-*"],
            "outputPath": f"{folder}/out",
            "signatureName": "keyed",
            "region": "local",
            "batchSize": "4",
            **target,
        }
        body = {"jobId": job_id, "predictionInput": value}
        engine.client().jobs().create(parent="projects/local", body=body).execute()
        job = engine.wait_job(job_id, "SUCCEEDED", "FAILED")
        assert job["state"] == "SUCCEEDED", job["errorMessage"]
        results = engine.storage.read_bytes(f"{folder}/out/prediction.results-00000-of-00001").decode()
        errors = engine.storage.read_bytes(f"{folder}/out/prediction.errors_stats-00000-of-00001").decode()
        return job["predictionOutput"], [json.loads(line) for line in results.splitlines()], errors

    @pytest.mark.parametrize("target", [{"uri": "gs://graft/exports/ours"}, {"modelName": NAME + "ours"}])
    def test_keys_come_back_in_order_and_bad_pictures_are_counted(self, engine, target):
        job_id = f"batch_{next(iter(target))}"
        lines = [
            json.dumps(
                {"key": f"k{number}", "inputs": {"b64": base64.b64encode(picture((number + 1, 5))).decode()}}
            )
            for number in range(11)
        ]
        lines[5] = json.dumps({"key": "k5", "inputs": {"b64": base64.b64encode(b"text").decode()}})
        lines[7] = "{broken"
        output, results, errors = self.run(engine, job_id, lines, **target)
        assert (output["predictionCount"], output["errorCount"]) == ("9", "2")
        assert [row["key"] for row in results] == [f"k{n}" for n in range(11) if n not in (5, 7)]
        assert results[0]["outputs"] == [float(len(picture((1, 5))))]
        assert "part-1.jsonl:1: " in errors
        assert "part-1.jsonl:3: Invalid JSON" in errors

    def test_an_unknown_signature_fails_the_job(self, engine):
        engine.storage.write_bytes("gs://graft/batch/in.jsonl", b"[1, 2]\n")
        value = {
            "dataFormat": "JSON",
            "inputPaths": ["gs://graft/batch/in.jsonl"],
            "outputPath": "gs://graft/batch/none",
            "versionName": NAME + "foreign/versions/v1",
            "signatureName": "none",
        }
        body = {"jobId": "unknown_signature", "predictionInput": value}
        engine.client().jobs().create(parent="projects/local", body=body).execute()
        job = engine.wait_job("unknown_signature", "SUCCEEDED", "FAILED")
        assert "it has echo, mixed, names, serving_default, uneven" in job["errorMessage"]


class TestWorkers:
    def test_the_api_process_never_loads_tensorflow(self, engine):
        predict(engine, "foreign", [[1, 2]])
        libraries = Path(f"/proc/{engine.pid}/maps").read_text()
        assert "tensorflow" not in libraries
        assert "numpy" not in libraries
        assert all(
            "tensorflow" in Path(f"/proc/{worker.pid}/maps").read_text() for worker in workers(engine.pid)
        )

    def test_a_damaged_saved_model_fails_its_operation_only(self, engine):
        engine.storage.write_bytes("gs://graft/exports/damaged/saved_model.pb", b"no protobuf")
        error = engine.deploy("foreign", "damaged", "gs://graft/exports/damaged")["error"]
        assert error["message"].startswith("Create Version failed. Bad model detected with error: ")
        assert "Failed to load model: " in error["message"]
        version = engine.client().models().versions().get(name=NAME + "foreign/versions/damaged").execute()
        assert version["state"] == "FAILED"
        assert predict(engine, "foreign", [[1, 2]])["predictions"]

    def test_a_killed_worker_is_started_again(self, engine):
        before = {worker.pid for worker in workers(engine.pid)}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        answer = predict(engine, "foreign", [[1, 2]], retries=6)  # 503 while it is being loaded for long
        assert answer["predictions"] == [{"y": [7.0, 10.0]}]
        assert predict(engine, "ours", [base64.b64encode(picture()).decode()], retries=6)["predictions"]
        assert not before & {worker.pid for worker in workers(engine.pid)}

    def test_a_default_is_swapped_without_a_body_and_versions_come_and_go(self, engine):
        versions = engine.client().models().versions()
        engine.deploy("foreign", "v2", "gs://graft/exports/foreign")
        assert "isDefault" not in versions.get(name=NAME + "foreign/versions/v2").execute()
        assert versions.setDefault(name=NAME + "foreign/versions/v2").execute()["isDefault"] is True
        with pytest.raises(HttpError) as caught:
            versions.delete(name=NAME + "foreign/versions/v2").execute()
        assert caught.value.status_code == 400
        versions.setDefault(name=NAME + "foreign/versions/v1").execute()
        count = len(workers(engine.pid))
        begun = versions.delete(name=NAME + "foreign/versions/v2").execute()
        operations = engine.client().operations()
        wait_for(lambda: operations.get(name=begun["name"]).execute().get("done"))
        assert len(workers(engine.pid)) == count - 1

    def test_a_killed_engine_takes_its_workers_along_and_its_versions_come_back(self, engine):
        orphans = workers(engine.pid)
        assert orphans
        engine.end(signal.SIGKILL)
        assert psutil.wait_procs(orphans, timeout=5)[1] == []
        engine.start()
        assert predict(engine, "foreign", [[1, 2]])["predictions"] == [{"y": [7.0, 10.0]}]


def test_the_stock_client_gets_a_401_as_a_401(tmp_path):
    (tmp_path / "engine").mkdir()
    digest = hashlib.sha256(b"right").hexdigest()
    tokens = {"tokens": [{"sha256": digest, "name": "test"}]}
    (tmp_path / "engine" / "tokens.json").write_text(json.dumps(tokens))
    with EngineProcess(tmp_path) as engine:
        engine.start()
        assert engine.client("right").models().list(parent="projects/local").execute() == {}
        with pytest.raises(HttpError) as caught:
            engine.client("wrong").models().list(parent="projects/local").execute()
        assert caught.value.status_code == 401
        assert "invalid authentication credentials" in caught.value.reason
