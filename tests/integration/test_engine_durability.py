"""`kill -9` of the engine at any moment, under four clients: what it promised, it keeps."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.engine.backends.plan import MARK
from tests.fakes.clock import wait_for
from tests.integration.durable_client import ENDED, LINES, PROGRAM, DurableClient
from tests.integration.engine_process import EngineProcess
from tests.packages import wheel

ROUNDS = 50 if os.environ.get("GRAFT_SOAK") else 3
CLIENTS = 4
TINY_MODELS = Path(__file__).with_name("tiny_models.py")
WHEEL = "gs://graft/packages/soak-1-py3-none-any.whl"


@pytest.fixture
def engine(tmp_path: Path):
    exports = tmp_path / "buckets" / "graft" / "exports"
    command = [sys.executable, str(TINY_MODELS), str(exports)]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    settings = {"training_slots": 2, "cancel_grace_seconds": 1, "job_creations_per_minute": 10_000}
    engine = EngineProcess(tmp_path, **settings)
    engine.storage.write_bytes(WHEEL, wheel("soak", {"soak/__init__.py": "", "soak/task.py": PROGRAM}))
    line = str(DurableClient.request()["instances"][0]).replace("'", '"')
    engine.storage.write_bytes("gs://graft/lines.jsonl", f"{line}\n".encode() * LINES)
    yield engine
    engine.close()


def kill_at_random(engine: EngineProcess, chance: random.Random, number: int) -> None:
    """Start the engine and kill it while it starts, or while it works."""
    if number % 4 == 3:
        engine.spawn()
        time.sleep(chance.uniform(0.5, 3))
    else:
        engine.start()
        time.sleep(chance.uniform(0.2, 4))
    engine.end(signal.SIGKILL)


def all_of(client: DurableClient, path: str, name: str) -> list[dict[str, Any]]:
    found, token = [], ""
    while True:
        page = client.insist("GET", f"{path}?pageSize=100&pageToken={token}", 200)
        found += page.get(name, [])
        if not (token := page.get("nextPageToken", "")):
            return found


def check_jobs(engine: EngineProcess, clients: list[DurableClient]) -> dict[str, int]:
    listed = all_of(clients[0], "jobs", "jobs")
    assert sorted(job["jobId"] for job in listed) == sorted(id for client in clients for id in client.jobs)
    states: dict[str, int] = {}
    for job in listed:
        client = clients[int(job["jobId"][1 : job["jobId"].index("_")])]
        states[job["state"]] = states.get(job["state"], 0) + 1
        assert job["state"] in ENDED
        assert job["state"] == client.ended.get(job["jobId"], job["state"]), "an end is for ever"
        if job["state"] == "CANCELLED":
            assert job["jobId"] in client.cancelled
        else:
            assert job["state"] == "SUCCEEDED", job
        check_work(engine, job)
    return states


def check_work(engine: EngineProcess, job: dict[str, Any]) -> None:
    """Check that the work of a job was done once if it succeeded, and never twice."""
    succeeded = job["state"] == "SUCCEEDED"
    if "predictionInput" in job:
        out = f"gs://graft/out/{job['jobId']}/prediction.results-00000-of-00001"
        if succeeded:
            assert job["predictionOutput"]["predictionCount"] == str(LINES)
            assert engine.storage.read_bytes(out).count(b"\n") == LINES
        return
    path = Path(job["trainingInput"]["args"][0])
    steps = path.read_text().split() if path.exists() else []
    assert steps == ["start", "end"] if succeeded else steps.count("start") <= 1, (job, steps)


def check_versions(engine: EngineProcess, clients: list[DurableClient]) -> int:
    count = 0
    for client in clients:
        base = f"models/{client.model}"
        rows = all_of(client, f"{base}/versions", "versions")
        listed = {row["name"].rpartition("/")[2]: row for row in rows}
        assert listed.keys() == client.versions.keys()
        for name, row in listed.items():
            assert row["state"] == "READY", row
            answer = client.insist("POST", f"{base}/versions/{name}:predict", 200, body=client.request())
            assert client.favourite_of(answer) == ("odd", "even").index(client.versions[name])
            source = engine.home / "buckets" / "graft" / "exports" / client.versions[name]
            assert files_of(copies(engine) / client.model / name) == files_of(source)
        kept = {path.name for path in (copies(engine) / client.model).glob("*") if files_of(path)}
        assert kept == listed.keys(), "files of versions that are gone"
        count += len(listed)
    cached = sorted(path.name for path in (engine.home / "engine" / "models").glob("*/*"))
    assert len(cached) == count, cached
    return count


def copies(engine: EngineProcess) -> Path:
    return engine.home / "buckets" / "graft" / "models"


def files_of(directory: Path) -> dict[str, bytes]:
    """The objects below a directory; a write that was killed leaves a hidden part that is none."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def check_operations(client: DurableClient) -> int:
    operations = all_of(client, "operations", "operations")
    assert [operation for operation in operations if not operation.get("done")] == []
    assert [operation for operation in operations if "error" in operation] == []
    return len(operations)


def processes_of(home: Path) -> list[str]:
    """Every living process that the engine or its jobs started."""
    found = []
    for process in psutil.process_iter():
        try:
            words, marked = process.cmdline(), process.environ().get(MARK, "")
        except psutil.Error:
            continue
        if process.pid != os.getpid() and (str(home) in " ".join(words) or marked.startswith(str(home))):
            found.append(f"{process.pid} {' '.join(words)}")
    return found


def is_settled(clients: list[DurableClient]) -> bool:
    jobs = all_of(clients[0], "jobs", "jobs")
    operations = all_of(clients[0], "operations", "operations")
    return all(job["state"] in ENDED for job in jobs) and all(row.get("done") for row in operations)


def test_a_killed_engine_loses_and_doubles_nothing(engine, tmp_path, capsys):
    chance = random.Random(5)
    runs = tmp_path / "buckets" / "graft" / "soak"
    runs.mkdir(parents=True)
    clients = [
        DurableClient(engine.port, number, runs, WHEEL, "gs://graft/exports") for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        for number in range(ROUNDS):
            kill_at_random(engine, chance, number)
        engine.start()
        wait_for(lambda: all(client.default and client.ended for client in clients), seconds=120)
    finally:
        for client in clients:
            client.done.set()
    for client in clients:
        client.join(120)
        assert not client.is_alive()
        for job_id in client.long_jobs() - client.ended.keys():
            client.cancelled.add(job_id)
            client.insist("POST", f"jobs/{job_id}:cancel", 200, 400)
    wait_for(lambda: is_settled(clients), seconds=180)
    broken = [line for client in clients for line in client.broken]
    assert broken == []
    states, versions = check_jobs(engine, clients), check_versions(engine, clients)
    operations = check_operations(clients[0])
    assert engine.end(signal.SIGTERM) == 0
    wait_for(lambda: not processes_of(tmp_path), seconds=30)
    with sqlite3.connect(tmp_path / "engine" / "engine.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    totals = {name: sum(client.counts[name] for client in clients) for name in clients[0].counts}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{ROUNDS} kills: jobs {states}, {versions} versions, {operations} operations, {totals}\n"
        )
