"""Versions come, become the default and go under load, and no client notices more than another answer."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes.pictures import encode
from tests.integration.engine_process import EngineProcess
from tests.integration.tiny_heads import Clients, convert_network, write_model

NUM_SWITCHES = 100 if os.environ.get("GRAFT_SOAK") else 8


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return convert_network(tmp_path_factory.mktemp("network") / "network.tflite")


@pytest.fixture
def engine(tmp_path: Path, network: bytes) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path) as engine:
        for number in range(NUM_SWITCHES + 1):
            write_model(tmp_path / "buckets" / "graft" / "exports" / str(number), network, number)
        engine.start()
        engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
        yield engine


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
    clients = Clients([engine.port], body)
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
