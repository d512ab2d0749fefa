"""One model served twice, by its TFLite export and by TensorFlow: the answers must be the same."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import math
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck
from PIL import Image

from pipeline.artifacts.model_files import TFLITE_MANIFEST, TFLITE_NETWORK
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.payload import MAX_PICTURE_BYTES, find_pixel_spec, fit_picture
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.storage import Storage
from tests.hostile_predictions import BODIES
from tests.integration.engine_process import EngineProcess
from tests.integration.kinds_of_pictures import pictures
from tests.integration.trainer_pack import make_bucket, run_job, tiny_pictures

TFLITE, SAVED_MODEL = "tflite", "saved_model"
MODELS = "gs://graft/jobs/1/model"
SOAK_REQUESTS = 100_000 if os.environ.get("GRAFT_SOAK") else 0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    home = tmp_path_factory.mktemp("home")
    with EngineProcess(home) as engine:
        storage, arguments = make_bucket(home / "buckets" / "graft", *tiny_pictures())
        run_job(storage, arguments, "--units", "32", "--epochs", "2", "--reject-below", "0.9")
        for name in storage.list_uris(f"{MODELS}/"):
            if not name.endswith(TFLITE_MANIFEST):
                storage.write_bytes(name.replace("jobs/1", "jobs/saved_model"), storage.read_bytes(name))
        engine.start()
        for name, uri in ((TFLITE, MODELS), (SAVED_MODEL, "gs://graft/jobs/saved_model/model")):
            create_model(engine, name)
            assert engine.deploy(name, "v1", uri)["response"]["state"] == "READY"
        yield engine


def create_model(engine: EngineProcess, name: str) -> None:
    engine.client().models().create(parent="projects/local", body={"name": name}).execute()


def ask(engine: EngineProcess, model: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{engine.url}/v1/projects/local/models/{model}:predict", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def both(engine: EngineProcess, **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return ask(engine, TFLITE, body), ask(engine, SAVED_MODEL, body)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def assert_close(tflite: Any, saved_model: Any, tolerance: float) -> None:
    """Compare two JSON values: numbers within a tolerance, all else exactly."""
    assert type(tflite) is type(saved_model)
    if isinstance(tflite, dict):
        assert tflite.keys() == saved_model.keys()
        for key, value in tflite.items():
            assert_close(value, saved_model[key], {"features": 1, "activation": 1e-3}.get(key, tolerance))
    elif isinstance(tflite, list):
        assert len(tflite) == len(saved_model)
        for mine, theirs in zip(tflite, saved_model, strict=True):
            assert_close(mine, theirs, tolerance)
    elif isinstance(tflite, float | int):
        assert math.isclose(tflite, saved_model, rel_tol=0, abs_tol=tolerance)
    else:
        assert tflite == saved_model


def worker_of(engine: EngineProcess, model: str) -> psutil.Process:
    """Return the process of a model's worker, or of the trunk that serves it."""
    directory = "/trunks/" if model == TFLITE else f"/{model}/"
    (found,) = [
        child
        for child in psutil.Process(engine.pid).children()
        if any(directory in word for word in child.cmdline())
    ]
    return found


class TestAnswers:
    def test_every_kind_of_picture_is_predicted_alike(self, engine: EngineProcess) -> None:
        tflite, saved_model = both(engine, instances=[{"inputs": b64(picture)} for picture in pictures()])
        assert len(tflite["predictions"]) == len(pictures())
        assert_close(tflite, saved_model, 1e-4)

    def test_a_large_picture_that_a_client_shrinks_is_answered_as_it_is(self, engine: EngineProcess) -> None:
        workspace = Workspace(engine.storage, "gs://graft")
        with contextlib.closing(RestMLEngine(engine.url, "local", "t")) as rest:
            spec = find_pixel_spec(workspace, rest, TFLITE, "v1")
        assert spec is not None
        levels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
        photo = Image.fromarray(levels).resize((1600, 1200), Image.Resampling.BICUBIC)
        photo.save(large := io.BytesIO(), "PNG")
        small = fit_picture(large.getvalue(), spec)
        assert len(large.getvalue()) > MAX_PICTURE_BYTES > len(small)
        as_it_is = both(
            engine, instances=[{"key": "k", "inputs": b64(large.getvalue())}], signature_name="keyed"
        )
        shrunk = both(engine, instances=[{"key": "k", "inputs": b64(small)}], signature_name="keyed")
        for one, other in zip(as_it_is, shrunk, strict=True):
            assert_close(one, other, 1e-3)

    @pytest.mark.parametrize("signature", ["keyed", "explained"])
    def test_keys_labels_and_explanations_are_alike(self, engine: EngineProcess, signature: str) -> None:
        instances = [{"key": f"k{i}", "inputs": b64(data)} for i, data in enumerate(pictures())]
        tflite, saved_model = both(engine, instances=instances, signature_name=signature)
        assert_close(tflite, saved_model, 1e-4)
        labels = {row["label"] for row in tflite["predictions"]}
        assert ("" in labels) == (signature == "keyed")  # under reject_below

    def test_base64_in_both_alphabets_and_bare_values(self, engine: EngineProcess) -> None:
        data = pictures()[0]
        texts: list[Any] = [base64.b64encode(data), base64.urlsafe_b64encode(data), base64.encodebytes(data)]
        texts = [text.decode() for text in texts]
        tflite, saved_model = both(
            engine, instances=[*texts, b64(data), {"inputs": b64(base64.b64encode(data))}]
        )
        assert_close(tflite, saved_model, 1e-4)
        for row in tflite["predictions"]:
            assert_close(row, tflite["predictions"][0], 1e-6)

    def test_pixels_and_no_instances(self, engine: EngineProcess) -> None:
        levels = [[[(row + column) % 256, row % 256, 0] for column in range(224)] for row in range(224)]
        assert_close(*both(engine, instances=[levels, {"inputs": levels}], signature_name="pixels"), 1e-4)
        assert both(engine, instances=[]) == ({"predictions": []}, {"predictions": []})

    @pytest.mark.parametrize(
        "instances",
        [
            [b64(b"no picture")],
            [b64(b"")],
            ["?"],
            [7],
            [{"wrong": 1}],
            [{"inputs": 1, "more": 2}],
            [{"b64": "?"}],
            "bad among good",
        ],
    )
    def test_what_cannot_be_predicted_is_refused_in_the_same_words(
        self, engine: EngineProcess, instances: Any
    ) -> None:
        if instances == "bad among good":
            good = pictures()[0]
            instances = [b64(good), b64(good[:-300]), b64(good), b64(good[:99])]
        tflite, saved_model = both(engine, instances=instances)
        assert tflite == saved_model
        assert set(tflite) == {"error"}

    @pytest.mark.parametrize(
        "body",
        [
            {"instances": [{"inputs": "a"}], "signature_name": "keyed"},
            {"instances": ["a"], "signature_name": "keyed"},
            {"instances": ["a"], "signature_name": "none"},
        ],
    )
    def test_signatures_are_asked_alike(self, engine: EngineProcess, body: dict[str, Any]) -> None:
        tflite, saved_model = both(engine, **body)
        assert tflite == saved_model
        assert set(tflite) == {"error"}

    @pytest.mark.parametrize(
        ("signature", "instance"),
        [("pixels", [[1, 2], [3]]), ("pixels", [[[1.5, 2, 3]]]), ("keyed", {"key": 5, "inputs": "a"})],
    )
    def test_wrong_types_are_errors_of_the_request(
        self, engine: EngineProcess, signature: str, instance: Any
    ) -> None:
        for answer in both(engine, instances=[instance], signature_name=signature):
            assert answer["error"].startswith("Prediction failed: Error ")

    def test_batch_prediction_gives_the_same_lines(self, engine: EngineProcess) -> None:
        lines = [json.dumps({"key": f"k{i}", "inputs": b64(data)}) for i, data in enumerate(pictures())]
        lines[2:2] = ["no json", json.dumps({"key": "bad", "inputs": "?"}), json.dumps({"key": "no inputs"})]
        engine.storage.write_bytes("gs://graft/in.jsonl", "\n".join(lines).encode())
        results, errors = [], []
        for model in (TFLITE, SAVED_MODEL):
            out = f"gs://graft/out/{model}"
            value = {
                "dataFormat": "JSON",
                "inputPaths": ["gs://graft/in.jsonl"],
                "outputPath": out,
                "region": "local",
                "modelName": f"projects/local/models/{model}",
                "signatureName": "explained",
            }
            job = {"jobId": f"batch_{model}", "predictionInput": value}
            engine.client().jobs().create(parent="projects/local", body=job).execute()
            engine.wait_job(f"batch_{model}", "SUCCEEDED")
            results.append(read_lines(engine.storage, f"{out}/prediction.results-00000-of-00001"))
            errors.append(read_lines(engine.storage, f"{out}/prediction.errors_stats-00000-of-00001"))
        assert_close(results[0], results[1], 1e-4)
        assert len(results[0]) == len(pictures())
        assert sorted(map(json.dumps, errors[0])) == sorted(map(json.dumps, errors[1]))
        assert len(errors[0]) == 3


def read_lines(storage: Storage, uri: str) -> list[Any]:
    return [json.loads(line) for line in storage.read_bytes(uri).splitlines()]


class TestRuntimes:
    def test_no_tensorflow_serves_the_light_form(self, engine: EngineProcess) -> None:
        def libraries(pid: int) -> str:
            return Path(f"/proc/{pid}/maps").read_text()

        tflite, saved_model = (
            libraries(worker_of(engine, TFLITE).pid),
            libraries(worker_of(engine, SAVED_MODEL).pid),
        )
        assert "ai_edge_litert" in tflite
        assert "tensorflow" not in tflite
        assert "tensorflow" in saved_model
        for name in ("ai_edge_litert", "tensorflow", "numpy"):
            assert name not in libraries(engine.pid)

    def test_a_damaged_light_form_is_served_by_tensorflow(self, engine: EngineProcess) -> None:
        storage, damaged = engine.storage, "gs://graft/jobs/damaged/model"
        storage.copy_tree(MODELS, damaged)
        data = bytearray(storage.read_bytes(f"{damaged}/{TFLITE_NETWORK}"))
        data[len(data) // 2] ^= 1
        storage.write_bytes(f"{damaged}/{TFLITE_NETWORK}", bytes(data))
        create_model(engine, "damaged")
        assert engine.deploy("damaged", "v1", damaged)["response"]["state"] == "READY"
        body = {"instances": [b64(pictures()[0])]}
        assert_close(ask(engine, "damaged", body), ask(engine, SAVED_MODEL, body), 1e-6)
        assert "is not the file that was compared with TensorFlow" in (engine.home / "engine.log").read_text()

    def test_the_version_says_what_runs_it(self, engine: EngineProcess) -> None:
        versions = engine.client().models().versions()
        for model, runtime in ((TFLITE, "litert"), (SAVED_MODEL, "tensorflow")):
            found = versions.get(name=f"projects/local/models/{model}/versions/v1").execute()
            assert found["labels"] == {"graft-runtime": runtime}


PART = 1000  # hypothesis remembers every example until it is done
COUNTS = [(TFLITE, SOAK_REQUESTS or 150), (SAVED_MODEL, SOAK_REQUESTS or 40)]


class TestHostileRequests:
    """In `make soak`: 100,000 requests, and ten minutes at least."""

    @pytest.mark.parametrize("model", [TFLITE, SAVED_MODEL])
    @pytest.mark.parametrize("pixels", [[], 5, [[1, 2]], [[[0, 0, 0]]]])
    def test_pixels_of_another_shape_are_an_error_and_end_no_worker(
        self, engine: EngineProcess, model: str, pixels: Any
    ) -> None:
        worker = worker_of(engine, model)
        answer = ask(engine, model, {"instances": [pixels], "signature_name": "pixels"})
        assert "224, 3)" in answer["error"]
        assert worker_of(engine, model).pid == worker.pid

    @pytest.mark.timeout(4 * 3600)
    @pytest.mark.parametrize(("model", "count"), COUNTS)
    def test_no_body_and_no_picture_breaks_it_and_memory_stays_flat(
        self, engine: EngineProcess, model: str, count: int
    ) -> None:
        until = time.monotonic() + (600 if SOAK_REQUESTS else 0)
        worker, api = worker_of(engine, model), psutil.Process(engine.pid)
        send_hostile(engine, model, max(20, count // 20))
        before = worker.memory_info().rss + api.memory_info().rss
        send_hostile(engine, model, count)
        while time.monotonic() < until:
            send_hostile(engine, model, count // 20)
        assert worker_of(engine, model).pid == worker.pid
        assert worker.memory_info().rss + api.memory_info().rss < before + 150_000_000
        assert "predictions" in ask(engine, model, {"instances": [b64(pictures()[0])]})


def send_hostile(engine: EngineProcess, model: str, count: int) -> None:
    """Send bodies until one is answered by something else than a prediction, its error, or a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=120)

    @hypothesis.given(BODIES)
    @hypothesis.settings(
        max_examples=min(count, PART), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def send(body: bytes) -> None:
        connection.request("POST", f"/v1/projects/local/models/{model}:predict", body)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        if answer.status == 200:
            assert set(found) in ({"predictions"}, {"error"})
        else:
            assert (answer.status, found["error"]["code"]) == (400, 400), found

    with contextlib.closing(connection):
        for _ in range(0, count, PART):
            send()
