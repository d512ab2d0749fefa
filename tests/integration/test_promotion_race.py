"""Races for what serves: runs that promote, people who roll back, the sweep; over HTTP, on one bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import uvicorn

from pipeline.artifacts.steps import Promotion
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.promote import promote_version
from pipeline.deploy.rollback import Rollback, rollback_version
from pipeline.deploy.sweep import delete_versions
from pipeline.engine.api.app import create_app
from pipeline.errors import PipelineError, PlatformError
from pipeline.ml_engine.protocol import default_version, resource_id
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.storage import Storage
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeParts
from tests.integration.engine_process import free_port

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 4
RACERS = 3
RACES = 10 if os.environ.get("GRAFT_SOAK") else 2
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
    try:
        wait_for(lambda: server.started)
        with closing(RestMLEngine(f"http://127.0.0.1:{config.port}", "p", "any")) as engine:
            yield engine
    finally:
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


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Do things at the same moment; return what they return, or the error of Graft that they raise."""
    gate = threading.Barrier(len(actions))

    def begin(action: Callable[[], object]) -> object:
        gate.wait(30)
        try:
            return action()
        except PipelineError as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return [each.result(60) for each in [pool.submit(begin, action) for action in actions]]


def promote(workspace: Workspace, endpoint: str) -> Promotion:
    """Promote the candidate through a client of its own, as a run does."""
    with closing(RestMLEngine(endpoint, "p", "any")) as engine:
        return promote_version(workspace, engine, model="m", version="v3", champion="v2")


def deploy_three(parts: FakeParts, engine: RestMLEngine, model: str) -> None:
    """Make a model with a champion `v2`, a version `v1` before it, and a candidate `v3`."""
    uri = parts.export("gs://graft/model")
    engine.ensure_model(model)
    for name in ("v1", "v2", "v3"):
        engine.create_version(model, {"name": name, "deploymentUri": uri, "runtimeVersion": "2.21"})
    engine.set_default(model, "v2")


def ready_versions(engine: RestMLEngine, model: str) -> set[str]:
    return {
        resource_id(version) for version in engine.list_versions(model) if version.get("state") == "READY"
    }


@pytest.mark.parametrize("number", range(RACES))
def test_a_rollback_and_a_promotion_happen_one_after_the_other(
    parts: FakeParts, engine: RestMLEngine, number: int
) -> None:
    workspace = Workspace(Storage({"graft": parts.home / "buckets" / "graft"}), "gs://graft")
    deploy_three(parts, engine, "m")
    promotion, rollback = at_once(
        lambda: promote(workspace, engine.endpoint),
        lambda: rollback_version(workspace, engine, model="m", by="Ada", reason="a race", to="v1"),
    )
    assert isinstance(rollback, Rollback)
    assert default_version(engine.get_model("m")) == "v1", "the rollback is last, or what it found is"
    assert promotion in (Promotion.PROMOTED, Promotion.SUPERSEDED)
    if promotion == Promotion.PROMOTED:
        assert rollback.previous == "v3"
        assert ready_versions(engine, "m") == {"v1", "v2", "v3"}
    else:
        assert rollback.previous == "v2"
        assert "v3" not in ready_versions(engine, "m")


@pytest.mark.parametrize("number", range(RACES))
def test_what_serves_after_a_sweep_and_a_promotion_is_there(
    parts: FakeParts, engine: RestMLEngine, number: int
) -> None:
    workspace = Workspace(Storage({"graft": parts.home / "buckets" / "graft"}), "gs://graft")
    deploy_three(parts, engine, "m")
    promotion, deleted = at_once(
        lambda: promote(workspace, engine.endpoint),
        lambda: delete_versions(engine, "m", ["v1", "v3"]),
    )
    default = default_version(engine.get_model("m"))
    assert default in ready_versions(engine, "m")
    if promotion == Promotion.PROMOTED:
        assert default == "v3"
    else:
        assert default == "v2"
        assert isinstance(promotion, PipelineError), "the candidate was deleted under it"
    assert isinstance(deleted, list | PlatformError)
