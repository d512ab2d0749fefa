"""An engine that lost its database gets everything back from the bucket."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.rebuild import rebuild_engine, unregistered_versions
from pipeline.ml_engine.rest import RestMLEngine
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
    engine = EngineProcess(tmp_path)
    engine.storage.upload_tree(exports, "gs://graft/exports")
    engine.start()
    yield engine
    engine.close()


def digests(home: Path) -> dict[str, str]:
    files = (path for path in (home / "buckets").rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def delete(path: Path) -> None:
    path.unlink()


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def predict(engine: EngineProcess) -> Any:
    name = "projects/local/models/numbers"
    return engine.client().predict(name=name, body={"instances": [3.0]}).execute()


@pytest.mark.parametrize("damage", [delete, zero])
def test_versions_default_and_history_come_back_and_the_bucket_stays(
    engine: EngineProcess, damage: Callable[[Path], None]
) -> None:
    workspace = Workspace(engine.storage, "gs://graft")
    engine.client().models().create(parent="projects/local", body={"name": "numbers"}).execute()
    for name in ("v1", "v2"):
        assert engine.deploy("numbers", name, f"gs://graft/exports/{name}")["response"]["state"] == "READY"
    promoted = HistoryEvent(event=EventType.PROMOTED, version="v2", run_id="r", previous="v1")
    record_event(workspace, "numbers", promoted)
    version = "projects/local/models/numbers/versions/v2"
    engine.client().models().versions().setDefault(name=version, body={}).execute()
    answer, history, before = predict(engine), read_history(workspace, "numbers"), digests(engine.home)
    engine.end(signal.SIGTERM)
    lose_database(engine, damage)
    engine.start()
    client = RestMLEngine(engine.url, "local", "t")
    assert unregistered_versions(workspace, client) == {"numbers": ["v1", "v2"]}
    (rebuilt,) = rebuild_engine(workspace, client)
    client.close()
    assert (rebuilt.registered, rebuilt.failed, rebuilt.default) == (("v1", "v2"), {}, "v2")
    assert predict(engine) == answer == {"predictions": [{"outputs": 6.0}]}
    assert read_history(workspace, "numbers") == history
    assert digests(engine.home) == before


def lose_database(engine: EngineProcess, damage: Callable[[Path], None]) -> None:
    """Damage the database; one that is still there stops the engine with a remedy, which is then followed."""
    database = engine.home / "engine" / "engine.db"
    damage(database)
    if not database.exists():
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


def test_a_version_that_does_not_load_keeps_its_files(engine: EngineProcess) -> None:
    broken = "gs://graft/models/numbers/v1/saved_model.pb"
    engine.storage.write_bytes(broken, b"no graph")
    client = RestMLEngine(engine.url, "local", "t")
    for _ in range(2):  # the second time, the failed version is deleted and created again
        (rebuilt,) = rebuild_engine(Workspace(engine.storage, "gs://graft"), client)
        assert "v1" in rebuilt.failed
        assert engine.storage.read_bytes(broken) == b"no graph"
    client.close()
