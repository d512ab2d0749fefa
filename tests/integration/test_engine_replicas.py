"""Two engine processes on one PostgreSQL database: what clients see of races, and when one is killed."""

from __future__ import annotations

import base64
import json
import logging
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from pipeline.engine.backends.local import stop_all_jobs
from pipeline.storage import S3Address, Storage
from tests.fakes.clock import wait_for
from tests.fakes.pictures import encode
from tests.fakes.postgres import running
from tests.fakes.s3 import FakeS3, running_s3, use_keys
from tests.integration.engine_process import EngineProcess
from tests.integration.tiny_heads import Clients, convert_network, write_model

log = logging.getLogger(__name__)

pytestmark = pytest.mark.soak
NUM_JOBS, NUM_CREATES, NUM_SWAPS = 50, 200, 100
FAIL_OVER_SECONDS = 15
STALE_SECONDS = 2


@pytest.fixture(scope="module")
def postgres():
    with running() as server:
        yield server


class Pair:
    """Two engines of one home on one database; `self[0]` starts first, and so leads."""

    def __init__(self, home: Path, postgres: Any) -> None:
        database = postgres.new_database()
        limits = {"job_creations_per_minute": 100_000, "training_slots": 2}
        self.engines = [
            EngineProcess(home, database=database, replica=number, **limits) for number in range(2)
        ]

    def __getitem__(self, number: int) -> EngineProcess:
        return self.engines[number]

    def url(self, number: int, path: str) -> str:
        return f"{self[number].url}/v1/projects/local/{path}"

    def role(self, number: int) -> str:
        return str(requests.get(f"{self[number].url}/readyz", timeout=60).json()["role"])


@pytest.fixture
def pair(tmp_path: Path, postgres: Any) -> Iterator[Pair]:
    pair = Pair(tmp_path, postgres)
    with pair[0], pair[1]:
        for engine in pair.engines:
            engine.start()
        assert (pair.role(0), pair.role(1)) == ("leader", "follower")
        yield pair


def create_racing(pair: Pair, gate: Path, prefix: str, creates: int = NUM_CREATES) -> Counter[int]:
    """Create 50 jobs, each several times through both engines at the same moment; count the answers."""
    bodies = [pair[0].training(f"{prefix}{number}", gate) for number in range(NUM_JOBS)]
    barrier = threading.Barrier(creates)

    def create(number: int) -> int:
        barrier.wait(60)
        body, url = bodies[number % NUM_JOBS], pair.url(number // NUM_JOBS % 2, "jobs")
        while (answer := requests.post(url, json=body, timeout=120)).status_code == 503:
            time.sleep(0.2)
        return answer.status_code

    with ThreadPoolExecutor(creates) as pool:
        return Counter(pool.map(create, range(creates)))


def check_that_each_ran_once(pair: Pair, number: int, prefix: str) -> None:
    listed = []
    token = ""
    while True:
        page = requests.get(pair.url(number, f"jobs?pageSize=20&pageToken={token}"), timeout=60).json()
        listed += [job["jobId"] for job in page["jobs"]]
        if not (token := page.get("nextPageToken", "")):
            break
    assert sorted(listed) == sorted(f"{prefix}{each}" for each in range(NUM_JOBS))
    for each in range(NUM_JOBS):
        pair[number].wait_job(f"{prefix}{each}", "SUCCEEDED", seconds=900)
        log = requests.get(pair.url(number, f"jobs/{prefix}{each}:log"), timeout=60).json()["log"]
        assert log.count("started ") == 1, log


def seconds_until_writes(pair: Pair, number: int, since: float) -> float:
    """Return how long after a moment an engine accepts changes."""

    def change() -> bool:
        body = {"name": f"m{time.monotonic_ns()}"}
        return requests.post(pair.url(number, "models"), json=body, timeout=60).status_code == 200

    wait_for(change, seconds=120)
    return time.monotonic() - since


def test_of_jobs_that_are_created_at_the_same_time_each_exists_and_runs_once(pair: Pair, tmp_path: Path):
    gate = tmp_path / "gate"
    gate.touch()
    answers = create_racing(pair, gate, "j")
    log.info("answers: %s", dict(answers))
    assert answers == {200: NUM_JOBS, 409: NUM_CREATES - NUM_JOBS}
    check_that_each_ran_once(pair, 1, "j")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_when_the_leader_is_gone_the_other_goes_on_and_nothing_is_lost_or_doubled(
    pair: Pair, tmp_path: Path, number: signal.Signals
):
    gate, leader = tmp_path / "gate", pair[0].process
    assert create_racing(pair, gate, "j")[200] == NUM_JOBS
    wait_for(lambda: pair_states(pair)["RUNNING"] == 2, seconds=300)
    assert leader is not None
    leader.send_signal(number)
    try:
        seconds = seconds_until_writes(pair, 1, time.monotonic())
    finally:
        leader.send_signal(signal.SIGCONT)  # one that stood still sees that another one leads, and ends
    log.info("after %s the other goes on in %.2f s", number.name, seconds)
    assert seconds < FAIL_OVER_SECONDS
    assert pair.role(1) == "leader"
    gate.touch()
    check_that_each_ran_once(pair, 1, "j")
    leader.wait(60)
    pair[0].process = None
    pair[0].start()
    assert pair.role(0) == "follower"
    check_that_each_ran_once(pair, 0, "j")


def test_logs_and_ends_of_jobs_outlive_the_machine_of_the_leader(
    tmp_path: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
):
    use_keys(monkeypatch)
    database, gates = postgres.new_database(), tmp_path / "gates"
    gates.mkdir()
    (gates / "open").touch()
    with running_s3() as store:
        machines = [machine_of(tmp_path / name, database, store) for name in ("one", "other")]
        with machines[0] as one, machines[1] as other:
            one.start()
            other.start()
            url = f"{one.url}/v1/projects/local/jobs"
            for job_id, gate in (("ended", "open"), ("running", "closed")):
                requests.post(url, json=one.training(job_id, gates / gate), timeout=60).raise_for_status()
            one.wait_job("ended", "SUCCEEDED", seconds=300)
            wait_for(lambda: b"started" in kept_log(one.storage, "running"), seconds=300)
            one.end(signal.SIGKILL)
            stop_all_jobs(one.home, grace_seconds=0)
            shutil.rmtree(one.home)
            error = other.wait_job("running", "FAILED", seconds=300)["errorMessage"]
            assert "does not reach the job's processes" in error
            url = f"{other.url}/v1/projects/local/jobs"
            for job_id in ("ended", "running"):
                answer = requests.get(f"{url}/{job_id}:log", timeout=60).json()
                log.info("%s: %s", job_id, answer)
                assert (answer["log"].count("started "), answer["complete"]) == (1, True)
            assert not (other.home / "engine" / "jobs" / "ended").exists()


def machine_of(home: Path, database: Any, store: FakeS3) -> EngineProcess:
    """Return an engine that shares the database and the bucket with those of other machines, and no file."""
    home.mkdir()
    engine = EngineProcess(home, database=database, training_slots=2)
    address = S3Address(bucket="graft", endpoint=store.url("").rstrip("/"), region="eu-1")
    engine.settings["GRAFT_BUCKETS"] = f"graft={address}"
    engine.storage = Storage({"graft": address}, cache=home / "cache")
    return engine


def kept_log(storage: Storage, run: str) -> bytes:
    return b"".join(map(storage.read_bytes, storage.list_uris(f"gs://graft/engine/local/{run}/log/")))


def pair_states(pair: Pair) -> Counter[str]:
    jobs = requests.get(pair.url(1, "jobs?pageSize=100"), timeout=60).json()["jobs"]
    return Counter(job["state"] for job in jobs)


def test_swaps_of_the_default_fail_no_prediction_and_are_seen_by_both(
    pair: Pair, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    network = convert_network(tmp_path_factory.mktemp("network") / "network.tflite")
    requests.post(pair.url(0, "models"), json={"name": "m"}, timeout=60).raise_for_status()
    labels = [str(number) for number in range(4)]
    for label in labels:
        write_model(tmp_path / "buckets" / "graft" / "exports" / label, network, int(label))
        assert "error" not in pair[int(label) % 2].deploy("m", f"v{label}", f"gs://graft/exports/{label}")
    picture = {"b64": base64.b64encode(encode(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG")).decode()}
    body = json.dumps({"instances": [{"key": "k", "inputs": picture}], "signature_name": "keyed"}).encode()
    periods = [("0", time.monotonic())]
    clients = Clients([pair[0].port, pair[1].port], body)
    chance = random.Random(1)
    try:
        for swap in range(NUM_SWAPS):
            label = chance.choice([each for each in labels if each != periods[-1][0]])
            path = f"models/m/versions/v{label}:setDefault"
            periods.append((label, time.monotonic()))
            requests.post(pair.url(swap % 2, path), json={}, timeout=60).raise_for_status()
            time.sleep(chance.choice((0, 0.1, 0.5, 3)))
        time.sleep(STALE_SECONDS + 1)
    finally:
        clients.stop()
    late = [lateness(periods, *answer) for answer in clients.answers]
    counts = len(clients.answers), len(clients.failures)
    log.info("%d answers, %d failed, the latest %.3f s too late", *counts, max(late))
    assert clients.failures == []
    assert max(late) < STALE_SECONDS


def lateness(periods: list[tuple[str, float]], asked: float, answered: float, label: str) -> float:
    """Return how long before a request was sent the version that answered had stopped to be the default."""
    ends = [moment for _, moment in periods[1:]] + [float("inf")]
    spans = [(begun, end) for (name, begun), end in zip(periods, ends, strict=True) if name == label]
    return max(0.0, asked - max(end for begun, end in spans if begun <= answered))
