"""Versions with one backbone share a process, which comes back when killed and refuses damaged files."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from pipeline.pages.snippets import write_snippets
from tests.fakes.clock import wait_for
from tests.fakes.pictures import encode
from tests.integration.engine_process import EngineProcess
from tests.integration.tiny_heads import Clients, convert_network, write_model

NUM_MODELS = 4
BODY = json.dumps(
    {
        "signature_name": "keyed",
        "instances": [
            {
                "key": "k",
                "inputs": {
                    "b64": base64.b64encode(
                        encode(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG")
                    ).decode()
                },
            }
        ],
    }
).encode()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    home = tmp_path_factory.mktemp("home")
    network = convert_network(home / "network.tflite")
    with EngineProcess(home) as engine:
        for number in range(2 * NUM_MODELS):
            write_model(home / "buckets" / "graft" / "exports" / str(number), network, number)
        engine.start()
        for number in range(NUM_MODELS):
            engine.client().models().create(parent="projects/local", body={"name": name(number)}).execute()
            deploy(engine, number, "v1", number)
        yield engine


def name(number: int) -> str:
    return "m" if number == 0 else f"m{number}"  # `m` is asked by `Clients`


def deploy(engine: EngineProcess, model: int, version: str, export: int) -> None:
    operation = engine.deploy(name(model), version, f"gs://graft/exports/{export}")
    assert operation["response"]["state"] == "READY", operation


def trunk(engine: EngineProcess) -> psutil.Process:
    (found,) = psutil.Process(engine.pid).children()
    return found


def label(engine: EngineProcess, model: str) -> str:
    request = urllib.request.Request(f"{engine.url}/v1/projects/local/models/{model}:predict", BODY)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: str = json.load(answer)["predictions"][0]["label"]
        return found


def test_versions_come_and_go_and_no_process_does(engine: EngineProcess) -> None:
    process = trunk(engine)
    assert [label(engine, name(number)) for number in range(NUM_MODELS)] == ["0", "1", "2", "3"]
    threads = process.num_threads()
    deploy(engine, 1, "v2", NUM_MODELS)
    assert label(engine, "m1/versions/v2") == str(NUM_MODELS)
    begun = engine.client().models().versions().delete(name="projects/local/models/m1/versions/v2").execute()
    wait_for(lambda: engine.client().operations().get(name=begun["name"]).execute().get("done"))
    assert (trunk(engine).pid, process.num_threads()) == (process.pid, threads)
    wait_for(lambda: len(list((engine.home / "engine" / "trunks").glob("*/heads/*"))) == NUM_MODELS)


def test_a_killed_process_fails_no_request(engine: EngineProcess) -> None:
    before, clients = trunk(engine).pid, Clients([engine.port], BODY)
    try:
        for _ in range(3):
            time.sleep(0.5)
            killed = trunk(engine)
            killed.kill()
            wait_for(lambda killed=killed: (now := psutil.Process(engine.pid).children()) and now != [killed])
            answered = len(clients.answers)
            wait_for(lambda answered=answered: len(clients.answers) > answered + 100, seconds=30)
    finally:
        clients.stop()
    assert clients.failures == []
    assert {answer for *_, answer in clients.answers} == {"0"}
    assert trunk(engine).pid != before


def test_a_damaged_head_is_provided_again(engine: EngineProcess) -> None:
    for path in (engine.home / "engine" / "trunks").glob("*/heads/*"):
        data = bytearray(path.read_bytes())
        data[-70] ^= 1
        path.unlink()  # the process that runs has it mapped
        path.write_bytes(data)
    assert label(engine, "m1") == "1"
    trunk(engine).kill()
    assert [label(engine, name(number)) for number in range(NUM_MODELS)] == ["0", "1", "2", "3"]
    assert "has the digest" in (engine.home / "engine.log").read_text()


@pytest.mark.parametrize(
    ("key", "program"),
    [("curl", "bash"), ("python", sys.executable), ("google", sys.executable)]
    + [("node", "node")] * bool(shutil.which("node")),  # what tests in CI need not have it
)
def test_the_programs_of_the_page_work_as_they_stand(
    engine: EngineProcess, tmp_path: Path, key: str, program: str
) -> None:
    done = run_snippet(engine, tmp_path, key, program)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b0\b", done.stdout), done.stdout
    assert "token-of-a-reader" not in done.stdout + done.stderr


def test_the_batch_prediction_of_the_page_works_as_it_stands(engine: EngineProcess, tmp_path: Path) -> None:
    [instance] = json.loads(BODY)["instances"]
    engine.storage.write_bytes("gs://graft/batch/photos.jsonl", json.dumps(instance).encode())
    done = run_snippet(engine, tmp_path, "batch", "bash")
    assert done.returncode == 0, done.stderr
    engine.wait_job(json.loads(done.stdout)["jobId"], "SUCCEEDED")
    [uri] = [uri for uri in engine.storage.list_uris("gs://graft/batch/answers/") if "results" in uri]
    assert json.loads(engine.storage.read_bytes(uri))["label"] == "0"


def run_snippet(
    engine: EngineProcess, folder: Path, key: str, program: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of the page beside a picture."""
    snippets = write_snippets(engine.url, project="local", model="m", bucket="gs://graft")
    [snippet] = [each for each in snippets if each.key == key]
    (folder / "program.mjs").write_text(snippet.text)
    (folder / "photo.jpg").write_bytes(encode(Image.new("RGB", (640, 480), (200, 10, 10)), "JPEG"))
    environment = {**os.environ, "GRAFT_TOKEN": "token-of-a-reader"}
    command = [program, "program.mjs"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
