"""Versions come, become the default and go under load, and no client notices more than another answer."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.model_files import HEAD, LABELS, TFLITE_NETWORK
from pipeline.npz import write_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.head import Head
from pipeline.tflite.manifest import Parity, TFLiteManifest, digest_files
from tests.fakes.pictures import encode
from tests.integration.engine_process import EngineProcess

NUM_CLIENTS = 16
NUM_SWITCHES = 100 if os.environ.get("GRAFT_SOAK") else 8
CONVERT = """
import sys, tensorflow as tf

def network(pixels):
    maps = tf.nn.avg_pool2d(tf.cast(pixels, tf.float32) / 255, 4, 4, "VALID")
    return tf.reduce_mean(maps, (1, 2)), maps

traced = tf.function(network, input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8)])
converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
open(sys.argv[1], "wb").write(converter.convert())
"""


def write_model(directory: Path, network: bytes, number: int) -> None:
    """Write a model whose TFLite export answers class `number` of 200 whatever it sees."""
    (directory / "graft").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"not read")
    (directory / TFLITE_NETWORK).write_bytes(network)
    (directory / LABELS).write_text(json.dumps([str(label) for label in range(200)]))
    bias = np.where(np.arange(200) == number, 50, 0).astype(np.float32)
    head = Head(
        hidden_kernel=np.zeros((3, 4), np.float32),
        hidden_bias=np.zeros(4, np.float32),
        output_kernel=np.zeros((4, 200), np.float32),
        output_bias=bias,
    )
    (directory / HEAD).write_bytes(write_npz(head.arrays()))
    TFLiteManifest(
        files=digest_files(directory),
        spec=PixelSpec(height=8, width=8, offset=0, divisor=255),
        reject_below=0,
        parity=Parity(pictures=1, largest_difference=0),
        made_by={},
    ).write(directory)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("network") / "network.tflite"
    subprocess.run([sys.executable, "-c", CONVERT, str(path)], check=True, capture_output=True, timeout=300)
    return path.read_bytes()


@pytest.fixture
def engine(tmp_path: Path, network: bytes) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path)
    for number in range(NUM_SWITCHES + 1):
        write_model(tmp_path / "buckets" / "graft" / "exports" / str(number), network, number)
    engine.start()
    engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
    yield engine
    engine.close()


class Clients:
    """Clients that ask without a pause and note when they asked, when they were answered, and by whom."""

    def __init__(self, port: int, body: bytes) -> None:
        self.answers: list[tuple[float, float, str]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port, body)) for _ in range(NUM_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not self._stop.is_set():
            asked = time.monotonic()
            try:
                connection.request("POST", "/v1/projects/local/models/m:predict", body)
                value: dict[str, Any] = json.loads(connection.getresponse().read())
                label = value["predictions"][0]["label"]
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            self.answers.append((asked, time.monotonic(), label))
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_switches_fail_no_request_and_no_version_answers_out_of_its_time(engine: EngineProcess) -> None:
    versions = engine.client().models().versions()
    picture = {"b64": base64.b64encode(encode(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG")).decode()}
    body = json.dumps({"instances": [{"key": "k", "inputs": picture}], "signature_name": "keyed"}).encode()

    def set_default(name: str) -> tuple[float, float]:
        begun = time.monotonic()
        versions.setDefault(name=f"projects/local/models/m/versions/{name}", body={}).execute()
        return begun, time.monotonic()

    def deploy(number: int) -> None:
        operation = engine.deploy("m", f"v{number}", f"gs://graft/exports/{number}")
        assert operation["response"]["state"] == "READY", operation

    deploy(0)
    served = {"0": [time.monotonic(), float("inf")]}  # from before it may be seen until it may not
    clients = Clients(engine.port, body)
    try:
        for number in range(1, NUM_SWITCHES + 1):
            deploy(number)
            begun, ended = set_default(f"v{number}")
            served[str(number)] = [begun, float("inf")]
            served[str(number - 1)][1] = ended
            if number < NUM_SWITCHES:
                old = f"projects/local/models/m/versions/v{number - 1}"
                versions.delete(name=old).execute()
        time.sleep(0.2)
        rollback, rolled_back = set_default(f"v{NUM_SWITCHES - 1}")
        time.sleep(0.9)
    finally:
        clients.stop()
    assert clients.failures == []
    assert len(clients.answers) > NUM_SWITCHES
    last, former = str(NUM_SWITCHES), str(NUM_SWITCHES - 1)
    for asked, answered, label in clients.answers:
        if asked > rolled_back:
            assert label == former  # visible to every request that comes after it, so in less than a second
        elif answered < rollback:
            since, until = served[label]
            assert answered >= since
            assert asked <= until
    assert rolled_back - rollback < 1
    assert {label for asked, _, label in clients.answers if asked > rolled_back} == {former}
    assert last in {label for *_, label in clients.answers}
