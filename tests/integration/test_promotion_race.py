"""Runs that race to promote: a real engine's HTTP and database, processes of their own, one bucket."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn

from pipeline.engine.api.app import create_app
from pipeline.ml_engine.protocol import default_version
from pipeline.ml_engine.rest import RestMLEngine
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts
from tests.integration.engine_process import free_port

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 4
RACERS = 3
PROMOTE = """
import json, sys, time
from pathlib import Path
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.promote import promote_version
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.storage import Storage

url, bucket, version = sys.argv[1:]
engine = RestMLEngine(url, "p", "any")
workspace = Workspace(Storage({"graft": Path(bucket)}), "gs://graft")
for line in sys.stdin:
    champion = line.strip()
    name = f"{version}_{champion}"
    ended = promote_version(workspace, engine, model="m", version=name, champion=champion)
    print(json.dumps({"version": name, "ended": str(ended)}), flush=True)
"""


@pytest.fixture
def parts(tmp_path: Path) -> FakeParts:
    return FakeParts(tmp_path)


@pytest.fixture
def engine(parts: FakeParts) -> Iterator[RestMLEngine]:
    config = uvicorn.Config(
        create_app(parts.engine()), host="127.0.0.1", port=free_port(), log_level="error", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started)
    with closing(RestMLEngine(f"http://127.0.0.1:{config.port}", "p", "any")) as engine:
        yield engine
    server.should_exit = True
    thread.join(20)


def test_of_runs_compared_with_one_champion_exactly_one_is_promoted(
    parts: FakeParts, engine: RestMLEngine
) -> None:
    uri = parts.export("gs://graft/model")
    engine.ensure_model("m")

    def deploy(name: str) -> None:
        engine.create_version("m", {"name": name, "deploymentUri": uri, "runtimeVersion": "2.21"})

    deploy("v")
    bucket = str(parts.home / "buckets" / "graft")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, engine.endpoint, bucket, f"r{number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    try:
        champion = "v"
        for _ in range(ROUNDS):
            for number in range(RACERS):
                deploy(f"r{number}_{champion}")
            champion = race(engine, racers, champion)
    finally:
        for racer in racers:
            racer.communicate(timeout=60)
    assert champion.count("r") == ROUNDS


def race(engine: RestMLEngine, racers: list[subprocess.Popen[str]], champion: str) -> str:
    """Let every racer promote its version over one champion, and return the winner."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(champion + "\n")
        racer.stdin.flush()
    results = [json.loads(racer.stdout.readline()) for racer in racers if racer.stdout is not None]
    winners = [result["version"] for result in results if result["ended"] == "promoted"]
    assert len(winners) == 1, results
    assert default_version(engine.get_model("m")) == winners[0]
    versions = engine.list_versions("m")
    assert [version.get("isDefault", False) for version in versions].count(True) == 1
    left = {str(version["name"]).rpartition("/")[2] for version in versions}
    assert not {result["version"] for result in results if result["ended"] == "superseded"} & left
    return str(winners[0])
