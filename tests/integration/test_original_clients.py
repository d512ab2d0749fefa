"""Original clients of Cloud ML Engine against the real engine, from a package registry and unchanged.

cloudmlmagic and cloudml-hypertune are here in every run. The large ones get environments of their own: `make
test-clients`, and `make soak`. What no registry has is in `old_clients`, request by request.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import googleapiclient
import pytest

from tests.clients.environments import AIRFLOW, MAGIC, TFX
from tests.integration import branin
from tests.integration.engine_process import EngineProcess
from tests.integration.test_public_trainers import run as run_trainer

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = ROOT / "tests" / "clients"
HYPERTUNE = """
import os
import hypertune

tuner = hypertune.HyperTune()
for step in range(3):
    tuner.report_hyperparameter_tuning_metric("accuracy", 0.5 + step / 10, global_step=step)
print("reported", open(os.environ["CLOUD_ML_HP_METRIC_FILE"]).read().count("accuracy"))
"""
GSUTIL = """#!{python}
import os, shutil, sys
command, source, target = sys.argv[1:]
assert command == "cp" and target.startswith("gs://graft/")
shutil.copyfile(source, os.environ["CLIENT_BUCKET"] + target[len("gs://graft"):])
"""
SUM = """
import sys, tensorflow as tf

class Sum(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def serve(self, x):
        return {"sum": tf.reduce_sum(x, axis=1)}

model = Sum()
tf.saved_model.save(model, sys.argv[1], signatures=model.serve)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path_factory.mktemp("home"), runtime_aliases="1.0=2.21")
    engine.storage.write_bytes("gs://graft/in/lines.jsonl", b'{"x": [1, 2]}\n{"x": [3, 4]}\n')
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def model(engine: EngineProcess) -> str:
    export = engine.home / "buckets" / "graft" / "exports" / "sum"
    subprocess.run([sys.executable, "-c", SUM, str(export)], check=True, capture_output=True, timeout=180)
    return "gs://graft/exports/sum"


def drive(engine: EngineProcess, python: Path, program: str, folder: Path, **more: str) -> dict[str, Any]:
    """Run a client's program and return what it says at its end."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "gsutil").write_text(GSUTIL.format(python=sys.executable))
    (tools / "gsutil").chmod(0o755)
    environ = {
        "PATH": os.pathsep.join([str(tools), str(python.parent), os.environ["PATH"]]),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": "google-cloud-platform://",
        "CLIENT_URL": engine.url,
        "CLIENT_BUCKET": str(engine.home / "buckets" / "graft"),
        **more,
    }
    command = [python, CLIENTS / program]
    run = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def check_magic(engine: EngineProcess, python: Path, folder: Path) -> None:
    """Run the article's magics; the job prints what the notebook does not."""
    answer = drive(engine, python, "magic_notebook.py", folder)
    job = engine.wait_job(answer["job"], "SUCCEEDED", "FAILED")
    log = (engine.home / "engine" / "jobs" / answer["job"] / "log.txt").read_text()
    assert job["state"] == "SUCCEEDED", log
    assert answer["place"] == "the notebook"
    assert "trained in a job" in log
    assert job["trainingInput"]["runtimeVersion"] == "1.0"  # the magic's own default


def test_cloudmlmagic(engine: EngineProcess, tmp_path: Path) -> None:
    check_magic(engine, Path(sys.executable), tmp_path)


def test_hypertune_in_a_job(engine: EngineProcess) -> None:
    _, log = run_trainer(engine, "hypertune", HYPERTUNE)
    assert "reported 3" in log


@pytest.mark.soak
class TestOwnEnvironments:
    def test_cloudmlmagic(self, engine: EngineProcess, tmp_path: Path) -> None:
        check_magic(engine, MAGIC.python(), tmp_path)

    def test_the_operators_of_airflow(self, engine: EngineProcess, model: str, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        gate.touch()
        more = {"CLIENT_PACKAGE": engine.write_package(), "CLIENT_GATE": str(gate), "CLIENT_MODEL": model}
        more["CLIENT_INPUT"] = "gs://graft/in/lines.jsonl"
        study = branin.study("airflow_study", branin.stage(engine), maxTrials=3, maxParallelTrials=2)
        more["CLIENT_STUDY"] = json.dumps(study)
        answer = drive(engine, AIRFLOW.python(), "airflow_operators.py", tmp_path, **more)
        assert "exited with a non-zero status of 3" in answer.pop("failed")
        path = "projects/local/models/vendored"
        assert answer == {
            "training": "airflow_1",
            "adopted": "airflow_1",
            "study": "airflow_study",
            "deferred": "MLEngineStartTrainingJobTrigger",
            "model": path,
            "model_again": path,
            "missing": None,
            "default": f"{path}/versions/v2",
            "versions": [f"{path}/versions/v1", f"{path}/versions/v2"],
            "batch": "2",
            "managed": "READY",
            "listed": 2,
            "deleted": None,
        }
        output = engine.wait_job("airflow_study", "SUCCEEDED")["trainingOutput"]
        assert output["completedTrialCount"] == "3"

    def test_the_client_of_tfx(self, engine: EngineProcess, model: str, tmp_path: Path) -> None:
        document = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "ml.v1.json"
        more = {"CLIENT_MODEL": model, "CLIENT_DISCOVERY": str(document)}
        answer = drive(engine, TFX.python(), "tfx_prediction_client.py", tmp_path, **more)
        assert (answer["new"], answer["again"], answer["default"]) == (True, False, ["v2"])
        assert answer["versions"] == {"v1": "READY", "v2": "READY"}
