"""An engine that lost its database gets everything back from the bucket."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.rebuild import rebuild_engine, unregistered_versions
from pipeline.ml_engine.rest import RestMLEngine
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess

BUILD = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self, factor):
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def serve(self, inputs):
        return {"outputs": inputs * self.factor}

for factor in (1.0, 2.0):
    model = Model(factor)
    tf.saved_model.save(model, f"{sys.argv[1]}/v{factor:.0f}", signatures={"serving_default": model.serve})
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exports = tmp_path_factory.mktemp("exports")
    subprocess.run([sys.executable, "-c", BUILD, str(exports)], check=True, capture_output=True, timeout=120)
    return exports


@pytest.fixture
def engine(tmp_path: Path, exports: Path) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path) as engine:
        engine.storage.upload_tree(exports, "gs://graft/exports")
        engine.start()
        yield engine


def digests(home: Path) -> dict[str, str]:
    files = (path for path in (home / "buckets").rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def delete(path: Path) -> None:
    path.unlink()


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Invert one bit of every 64th byte after the header, so that any row and any page may be hit."""
    data = bytearray(path.read_bytes())
    for position in range(100, len(data), 64):
        data[position] ^= 0x10
    path.write_bytes(data)


def predict(engine: EngineProcess) -> Any:
    name = "projects/local/models/numbers"
    return engine.client().predict(name=name, body={"instances": [3.0]}).execute()


@pytest.mark.parametrize(
    "damage",
    [delete, flip, *(pytest.param(each, marks=pytest.mark.soak) for each in (zero, empty, truncate))],
)
def test_versions_default_and_history_come_back_and_the_bucket_stays(
    engine: EngineProcess, damage: Callable[[Path], None]
) -> None:
    workspace = Workspace(engine.storage, "gs://graft")
    model = {"name": "numbers", "description": "Multiplies.", "labels": {"team": "a"}}
    engine.client().models().create(parent="projects/local", body=model).execute()
    for name in ("v1", "v2"):
        assert engine.deploy("numbers", name, f"gs://graft/exports/{name}")["response"]["state"] == "READY"
    promoted = HistoryEvent(event=EventType.PROMOTED, version="v1", run_id="r", previous=None)
    record_event(workspace, "numbers", promoted)
    version = "projects/local/models/numbers/versions/v2"
    engine.client().models().versions().setDefault(name=version, body={}).execute()
    answer, history = predict(engine), read_history(workspace, "numbers")
    resources = describe(engine)
    engine.end(signal.SIGTERM)
    before = digests(engine.home)
    lose_database(engine, damage)
    engine.start()
    client = RestMLEngine(engine.url, "local", "t")
    wait_for(lambda: "2 versions of 1 models" in health(engine).get("database", ""), seconds=10)
    assert unregistered_versions(workspace, client) == {"numbers": ["v1", "v2"]}
    (rebuilt,) = rebuild_engine(workspace, client)
    client.close()
    assert (rebuilt.registered, rebuilt.failed, rebuilt.default) == (("v1", "v2"), {}, "v2")
    assert predict(engine) == answer == {"predictions": [{"outputs": 6.0}]}
    assert read_history(workspace, "numbers") == history
    assert describe(engine) == resources
    assert health(engine) == {"status": "ok"}
    engine.end(signal.SIGTERM)  # which writes what the engine keeps in the bucket
    assert digests(engine.home) == before


def health(engine: EngineProcess) -> dict[str, str]:
    answer: dict[str, str] = requests.get(f"{engine.url}/healthz", timeout=10).json()
    return answer


def describe(engine: EngineProcess) -> list[dict[str, Any]]:
    """Return the resources of the model and its versions, without times and where the files came from."""
    models = engine.client().models()
    name = "projects/local/models/numbers"
    found = models.versions().list(parent=name).execute()["versions"]
    resources = [models.get(name=name).execute(), *sorted(found, key=lambda each: str(each["name"]))]
    for resource in [*resources, resources[0]["defaultVersion"]]:
        for key in ("createTime", "etag", "deploymentUri", "lastUseTime"):
            resource.pop(key, None)
    return resources


def lose_database(engine: EngineProcess, damage: Callable[[Path], None]) -> None:
    """Damage the database; one that is still there stops the engine with a remedy, which is then followed."""
    database = engine.home / "engine" / "engine.db"
    damage(database)
    if not database.exists() or not database.stat().st_size:
        return
    engine.spawn()
    assert engine.process is not None
    assert engine.process.wait(60) == 1
    engine.process = None
    log = (engine.home / "engine.log").read_text()
    assert "graft engine rebuild" in log
    assert "Traceback" not in log
    for path in database.parent.glob("engine.db*"):
        path.unlink()


def test_a_default_that_is_damaged_in_the_database_is_restored_from_the_bucket(engine: EngineProcess) -> None:
    engine.client().models().create(parent="projects/local", body={"name": "numbers"}).execute()
    assert engine.deploy("numbers", "v1", "gs://graft/exports/v1")["response"]["state"] == "READY"
    answer = predict(engine)
    engine.end(signal.SIGTERM)
    with closing(sqlite3.connect(engine.home / "engine" / "engine.db")) as database:
        database.execute("UPDATE models SET default_version = 'w1'")
        database.commit()
    engine.start()
    assert "1 models have versions but no default" in health(engine)["database"]
    client = RestMLEngine(engine.url, "local", "t")
    (rebuilt,) = rebuild_engine(Workspace(engine.storage, "gs://graft"), client)
    client.close()
    assert (rebuilt.kept, rebuilt.default) == (("v1",), "v1")
    assert predict(engine) == answer
    assert health(engine) == {"status": "ok"}


def test_a_version_that_does_not_load_keeps_its_files(engine: EngineProcess) -> None:
    broken = "gs://graft/models/numbers/v1/saved_model.pb"
    engine.storage.write_bytes(broken, b"no graph")
    client = RestMLEngine(engine.url, "local", "t")
    for _ in range(2):  # the second time, the failed version is deleted and created again
        (rebuilt,) = rebuild_engine(Workspace(engine.storage, "gs://graft"), client)
        assert "v1" in rebuilt.failed
        assert engine.storage.read_bytes(broken) == b"no graph"
    client.close()
