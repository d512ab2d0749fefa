"""`kill -9` of the engine at any moment, under four clients: what it promised, it keeps."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fakes.clock import wait_for
from tests.integration import durable_checks as checks
from tests.integration.durable_client import LINES, PROGRAM, DurableClient
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
    with EngineProcess(tmp_path, **settings) as engine:
        engine.storage.write_bytes(WHEEL, wheel("soak", {"soak/__init__.py": "", "soak/task.py": PROGRAM}))
        line = str(DurableClient.request()["instances"][0]).replace("'", '"')
        engine.storage.write_bytes("gs://graft/lines.jsonl", f"{line}\n".encode() * LINES)
        yield engine


def kill_at_random(engine: EngineProcess, chance: random.Random, number: int) -> None:
    """Start the engine and kill it while it starts, or while it works."""
    if number % 4 == 3:
        engine.spawn()
        time.sleep(chance.uniform(0.5, 3))
    else:
        engine.start()
        time.sleep(chance.uniform(0.2, 4))
    engine.end(signal.SIGKILL)


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
    wait_for(lambda: checks.is_settled(clients), seconds=180)
    broken = [line for client in clients for line in client.broken]
    assert broken == []
    states, versions = checks.check_jobs(engine, clients), checks.check_versions(engine, clients)
    operations = checks.check_operations(clients[0])
    assert engine.end(signal.SIGTERM) == 0
    wait_for(lambda: not checks.processes_of(tmp_path), seconds=30)
    checks.check_database(engine)
    totals = {name: sum(client.counts[name] for client in clients) for name in clients[0].counts}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{ROUNDS} kills: jobs {states}, {versions} versions, {operations} operations, {totals}\n"
        )
