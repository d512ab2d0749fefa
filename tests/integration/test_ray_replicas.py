"""Jobs with several replicas on a real Ray cluster of two nodes in namespaces (`make test-ray`)."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.stack.ray_cluster import RayCluster
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess
from tests.integration.ray_engine import (
    PATIENCE,
    cancel,
    create,
    log_of,
    programs_with,
    ray_cluster,
    ray_engine,
)
from tests.packages import wheel

log = logging.getLogger(__name__)

MIRRORED = Path(__file__).with_name("mirrored_task.py")
ONE_WORKER = {"scaleTier": "CUSTOM", "masterType": "m", "workerType": "m", "workerCount": "1"}
TWO_AND_A_SERVER = {
    **ONE_WORKER,
    "workerCount": "2",
    "parameterServerType": "m",
    "parameterServerCount": "1",
}

PICKY = """
import json, os, sys, time
from pathlib import Path
task = json.loads(os.environ['TF_CONFIG'])['task']
print('started', task, flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.05)
if (task['type'], task['index']) == ('worker', 1):
    raise ValueError('no pictures for me')
time.sleep(3600)
"""

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


def own_config(pid: int) -> dict[str, Any]:
    return json.loads(psutil.Process(pid).environ()["TF_CONFIG"])


def programs_by_task(gate: Path) -> dict[str, int]:
    tasks = {pid: own_config(pid)["task"] for pid in programs_with(gate)}
    return {f"{task['type']} {task['index']}": pid for pid, task in tasks.items()}


def started_by(engine: EngineProcess, job_id: str) -> list[str]:
    """Return which replicas have started, once for each of their starts."""
    return sorted(re.findall(r"^\[(\w+ \d)\] started ", log_of(engine, job_id), re.MULTILINE))


def test_each_replica_has_its_own_task_and_the_chief_ends_the_servers(engine: EngineProcess, gate: Path):
    create(engine, engine.training("cluster", gate, **TWO_AND_A_SERVER))
    names = ["chief 0", "ps 0", "worker 0", "worker 1"]
    wait_for(lambda: sorted(programs_by_task(gate)) == names, seconds=PATIENCE)
    engine.wait_job("cluster", "RUNNING", seconds=PATIENCE)
    clusters = [own_config(pid)["cluster"] for pid in programs_with(gate)]
    assert all(each == clusters[0] for each in clusters)
    assert {role: len(hosts) for role, hosts in clusters[0].items()} == {"chief": 1, "worker": 2, "ps": 1}
    addresses = [address for hosts in clusters[0].values() for address in hosts]
    log.info("addresses: %s", clusters[0])
    assert len(set(addresses)) == 4
    assert {address.partition(":")[0] for address in addresses} == {"10.77.0.2", "10.77.0.3"}
    gate.touch()
    engine.wait_job("cluster", "SUCCEEDED", seconds=PATIENCE)
    assert programs_with(gate) == []
    assert started_by(engine, "cluster") == ["master 0", "ps 0", "worker 0", "worker 1"]


def test_one_replica_that_fails_ends_all_and_is_named(engine: EngineProcess, gate: Path):
    body = engine.training("failing", gate, **TWO_AND_A_SERVER)
    uri = "gs://graft/packages/picky-1-py3-none-any.whl"
    engine.storage.write_bytes(uri, wheel("picky", {"tiny/__init__.py": "", "tiny/task.py": PICKY}))
    body["trainingInput"]["packageUris"] = [uri]
    create(engine, body)
    wait_for(lambda: len(programs_with(gate)) == 4, seconds=PATIENCE)
    gate.touch()
    message = engine.wait_job("failing", "FAILED", seconds=PATIENCE)["errorMessage"]
    log.info("%s", message)
    assert message.startswith("The replica worker 1 exited with a non-zero status of 1.")
    assert "ValueError: no pictures for me" in message
    assert programs_with(gate) == []


def test_a_killed_worker_makes_the_whole_job_run_again_once(engine: EngineProcess, gate: Path):
    create(engine, engine.training("killed", gate, **ONE_WORKER))
    wait_for(lambda: len(programs_with(gate)) == 2, seconds=PATIENCE)
    wait_for(lambda: started_by(engine, "killed") == ["master 0", "worker 0"], seconds=PATIENCE)
    first = programs_by_task(gate)
    os.kill(first["worker 0"], signal.SIGKILL)
    wait_for(lambda: len(set(programs_with(gate)) - set(first.values())) == 2, seconds=PATIENCE)
    gate.touch()
    engine.wait_job("killed", "SUCCEEDED", seconds=PATIENCE)
    text = log_of(engine, "killed")
    log.info("%s", text)
    assert started_by(engine, "killed") == ["master 0", "master 0", "worker 0", "worker 0"]
    assert text.count("[Attempt 1 was lost. Attempt 2:]") == 1
    assert "The replica worker 0 was ended by a signal (status 137)." in text


def test_a_job_starts_no_replica_before_there_is_room_for_all(engine: EngineProcess, gate: Path):
    create(engine, engine.training("large", gate, **{**ONE_WORKER, "workerCount": "20"}))
    wait_for(lambda: "has no room yet for 21 replicas" in log_of(engine, "large"), seconds=PATIENCE)
    assert programs_with(gate) == []
    cancel(engine, "large")
    engine.wait_job("large", "CANCELLED", seconds=PATIENCE)


def test_a_cancelled_job_leaves_no_replica(engine: EngineProcess, gate: Path):
    create(engine, engine.training("cancelled", gate, **ONE_WORKER))
    wait_for(lambda: len(programs_with(gate)) == 2, seconds=PATIENCE)
    cancel(engine, "cancelled")
    engine.wait_job("cancelled", "CANCELLED", seconds=PATIENCE)
    assert programs_with(gate) == []


def test_mirrored_training_on_two_nodes_has_the_loss_of_one(engine: EngineProcess, home: Path):
    outputs = {name: home / "buckets" / "graft" / "jobs" / name / "losses.json" for name in ("one", "two")}
    files = {"mirrored/__init__.py": "", "mirrored/task.py": MIRRORED.read_text()}
    uri = "gs://graft/packages/mirrored-1-py3-none-any.whl"
    engine.storage.write_bytes(uri, wheel("mirrored", files))
    for name, path in outputs.items():
        value = {
            "packageUris": [uri],
            "pythonModule": "mirrored.task",
            "args": [str(path)],
            "jobDir": f"gs://graft/jobs/{name}",
            "region": "local",
            **(ONE_WORKER if name == "two" else {}),
        }
        create(engine, {"jobId": name, "trainingInput": value})
        engine.wait_job(name, "SUCCEEDED", seconds=PATIENCE)
    log.info("%s", [line for line in log_of(engine, "two").splitlines() if "loss" in line])
    results = {name: json.loads(path.read_text()) for name, path in outputs.items()}
    cluster = results["two"]["config"]["cluster"]
    hosts = {address.partition(":")[0] for addresses in cluster.values() for address in addresses}
    losses = {name: result["losses"] for name, result in results.items()}
    log.info("losses: %s", {name: (values[0], values[-1]) for name, values in losses.items()})
    assert hosts == {"10.77.0.2", "10.77.0.3"}
    assert losses["one"][-1] < losses["one"][0] / 5
    assert losses["two"][-1] == pytest.approx(losses["one"][-1], rel=0.01)


def test_a_lost_host_makes_the_whole_job_run_again_on_the_other(
    engine: EngineProcess, cluster: RayCluster, gate: Path
):
    create(engine, engine.training("lost", gate, **ONE_WORKER))
    wait_for(lambda: len(programs_with(gate)) == 2, seconds=PATIENCE)
    assert set(hosts_of(gate)) == {"10.77.0.2", "10.77.0.3"}
    cluster.cut_off("node2")
    cluster.kill("node2")
    wait_for(lambda: hosts_of(gate) == ["10.77.0.2"] * 2, seconds=PATIENCE)
    gate.touch()
    engine.wait_job("lost", "SUCCEEDED", seconds=PATIENCE)
    assert log_of(engine, "lost").count("[Attempt 1 was lost. Attempt 2:]") == 1


def hosts_of(gate: Path) -> list[str]:
    """Return the addresses in the `TF_CONFIG` of each replica that runs."""
    hosts = []
    for pid in programs_with(gate):
        config = own_config(pid)
        address = config["cluster"][config["task"]["type"]][config["task"]["index"]]
        hosts.append(address.partition(":")[0])
    return hosts
