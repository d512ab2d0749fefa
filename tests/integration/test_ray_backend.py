"""Jobs on a real Ray cluster: a head and two nodes in namespaces of their own (`make test-ray`)."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image

from pipeline.stack.ray_cluster import RayCluster
from tests.fakes.clock import wait_for
from tests.fakes.pictures import encode
from tests.integration.engine_process import EngineProcess
from tests.integration.hostile_targets import (
    HOSTILE,
    check_that_this_machine_reaches,
    reached,
    read_report,
    targets,
)
from tests.integration.ray_engine import (
    PATIENCE,
    cancel,
    create,
    log_of,
    node_of,
    programs_with,
    ray_cluster,
    ray_engine,
)
from tests.integration.tiny_heads import convert_network, write_model
from tests.packages import wheel

log = logging.getLogger(__name__)

HEAD_SECONDS = 300

pytestmark = [
    pytest.mark.skipif(os.environ.get("GRAFT_TEST_RAY") != "1", reason="`make test-ray` runs it"),
    pytest.mark.timeout(2400),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[RayCluster]:
    with ray_cluster(home) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def engine(home: Path, cluster: RayCluster) -> Iterator[EngineProcess]:
    with ray_engine(home, cluster) as engine:
        yield engine


@pytest.fixture
def gate(home: Path, request: pytest.FixtureRequest) -> Path:
    return home / "buckets" / "graft" / "gates" / request.node.name


def listed_ids(engine: EngineProcess) -> Counter[str]:
    answer = requests.get(f"{engine.url}/v1/projects/local/jobs?pageSize=100", timeout=120).json()
    return Counter(job["jobId"] for job in answer["jobs"])


def start_waiting_jobs(engine: EngineProcess, home: Path, gate: Path, prefix: str) -> dict[str, str]:
    """Start six jobs that wait; return which host each runs on."""
    names = [f"{prefix}{number}" for number in range(6)]
    for name in names:
        create(engine, engine.training(name, gate))
    for name in names:
        engine.wait_job(name, "RUNNING", seconds=PATIENCE)
    wait_for(lambda: all("started" in log_of(engine, name) for name in names), seconds=PATIENCE)
    return {name: node_of(home, name) for name in names}


def restart(engine: EngineProcess) -> None:
    engine.end(signal.SIGKILL)
    engine.start()


class TestJobs:
    def test_a_job_gets_its_arguments_and_its_log_can_be_read(self, engine: EngineProcess, gate: Path):
        gate.touch()
        create(engine, engine.training("good", gate))
        job = engine.wait_job("good", "SUCCEEDED", seconds=PATIENCE)
        assert job["startTime"] <= job["endTime"]
        assert f"'{gate}', '0'" in log_of(engine, "good")

    def test_a_program_that_fails_has_its_exit_code_and_its_log(self, engine: EngineProcess, gate: Path):
        gate.touch()
        create(engine, engine.training("bad", gate, 3))
        assert "3" in engine.wait_job("bad", "FAILED", seconds=PATIENCE)["errorMessage"]
        assert "started" in log_of(engine, "bad")

    def test_a_cancelled_job_ends_with_all_that_it_started(self, engine: EngineProcess, gate: Path):
        create(engine, engine.training("gone", gate))
        engine.wait_job("gone", "RUNNING", seconds=PATIENCE)
        wait_for(lambda: programs_with(gate), seconds=PATIENCE)
        cancel(engine, "gone")
        engine.wait_job("gone", "CANCELLED", seconds=PATIENCE)
        assert programs_with(gate) == []

    def test_an_id_is_used_once(self, engine: EngineProcess, gate: Path):
        gate.touch()
        answers = [
            requests.post(
                f"{engine.url}/v1/projects/local/jobs", json=engine.training("once", gate), timeout=120
            )
            for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 409]
        engine.wait_job("once", "SUCCEEDED", seconds=PATIENCE)
        assert log_of(engine, "once").count("started") == 1


def test_a_hostile_job_reaches_nothing_of_the_engine_and_of_its_servers(
    engine: EngineProcess, cluster: RayCluster, home: Path
):
    with targets(home, engine.port) as asked:
        asked["files"].append(str(cluster.token_file))
        asked["secrets_reversed"].append(cluster.token_file.read_text()[::-1])
        check_that_this_machine_reaches(asked)
        name = "hostile-1-py3-none-any.whl"
        files = {"hostile/__init__.py": "", "hostile/task.py": HOSTILE.read_text()}
        engine.storage.write_bytes(f"gs://graft/packages/{name}", wheel("hostile", files))
        value = {
            "packageUris": [f"gs://graft/packages/{name}"],
            "pythonModule": "hostile.task",
            "args": [json.dumps(asked)],
            "region": "local",
            "runtimeVersion": "2.21",
        }
        create(engine, {"jobId": "hostile", "trainingInput": value})
        engine.wait_job("hostile", "SUCCEEDED", seconds=PATIENCE)
    report = read_report(log_of(engine, "hostile"))
    log.info("in the job: %s", json.dumps(report))
    assert reached(report) == []
    assert (report["dashboard"]["what"], report["submission"]["what"]) == ("401", "401")
    assert report["num_secrets"] == 0
    assert {name for _, name in report["network"]} == {"lo", "eth0"}


def test_six_jobs_survive_the_loss_of_a_host_and_a_restart_of_the_engine(
    engine: EngineProcess, cluster: RayCluster, home: Path, gate: Path
):
    hosts = start_waiting_jobs(engine, home, gate, "six")
    lost = [name for name, host in hosts.items() if host == "node2"]
    log.info("hosts of the jobs: %s", hosts)
    assert 0 < len(lost) < 6, hosts
    cluster.cut_off("node2")  # as a host does that loses power: nothing on it can say good-bye
    cluster.kill("node2")
    began = time.monotonic()
    restart(engine)
    wait_for(lambda: all(node_of(home, name, 2) for name in lost), seconds=PATIENCE)
    log.info("lost: %s; their next attempts ran after %.0f s", lost, time.monotonic() - began)
    restart(engine)
    gate.touch()
    for name in hosts:
        engine.wait_job(name, "SUCCEEDED", seconds=PATIENCE)
    ids = listed_ids(engine)
    for name in hosts:
        text = log_of(engine, name)
        assert ids[name] == 1
        assert text.count("started ") == (2 if name in lost else 1), text
        assert ("[Attempt 1 was lost. Attempt 2:]" in text) == (name in lost), text
    assert {node_of(home, name, 2) for name in lost} == {"node1"}
    cluster.start_host("node2", cpus=6)
    cluster.wait_for_hosts(3)


class Predictions:
    """Asks a model for predictions, ten times a second, until it is stopped; counts what came of it."""

    def __init__(self, engine: EngineProcess) -> None:
        picture = base64.b64encode(encode(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG")).decode()
        self._body = {"instances": [{"key": "k", "inputs": {"b64": picture}}], "signature_name": "keyed"}
        self._url = f"{engine.url}/v1/projects/local/models/m:predict"
        self._stop = threading.Event()
        self.num_answers, self.failures = 0, list[str]()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Predictions:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                answer = requests.post(self._url, json=self._body, timeout=60)
                assert answer.json()["predictions"][0]["label"] == "7", answer.text
            except (OSError, AssertionError, LookupError) as error:
                self.failures.append(repr(error))
            else:
                self.num_answers += 1


def test_jobs_end_or_run_again_when_the_head_is_killed_and_predictions_go_on(
    engine: EngineProcess, cluster: RayCluster, home: Path, gate: Path, tmp_path: Path
):
    network = convert_network(tmp_path / "network.tflite")
    requests.post(f"{engine.url}/v1/projects/local/models", json={"name": "m"}, timeout=60).raise_for_status()
    write_model(home / "buckets" / "graft" / "exports" / "7", network, 7)
    assert "error" not in engine.deploy("m", "v7", "gs://graft/exports/7")
    hosts = start_waiting_jobs(engine, home, gate, "head")
    with Predictions(engine) as predictions:
        began = time.monotonic()
        cluster.kill("head")
        cluster.start_host("head")
        cluster.wait_for_hosts(1)
        log.info("the head answers again after %.0f s", time.monotonic() - began)
        gate.touch()
        for name in hosts:
            engine.wait_job(name, "SUCCEEDED", seconds=PATIENCE)
        seconds = time.monotonic() - began
    counts = {name: log_of(engine, name).count("started ") for name in hosts}
    log.info("all ended after %.0f s; starts of each: %s", seconds, counts)
    log.info("%d predictions, %d failed", predictions.num_answers, len(predictions.failures))
    assert seconds < HEAD_SECONDS
    assert predictions.failures == []
    assert predictions.num_answers > 0
    assert all(listed_ids(engine)[name] == 1 for name in hosts)
    cluster.wait_for_hosts(3)
