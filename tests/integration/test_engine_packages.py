"""Packages as users send them, installed by a real engine for jobs that run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.ml_engine.rest import RestMLEngine
from pipeline.ml_v1 import PACKAGES_REFUSED
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess
from tests.packages import sdist, wheel

SETUP = """
from setuptools import setup, find_packages
setup(name='trainer', version='0.0.0', packages=find_packages(), install_requires=['keras', 'h5py', 'Pillow'])
"""
ARTICLE = """
import argparse, sys, time
from pathlib import Path
import PIL
parser = argparse.ArgumentParser()
parser.add_argument('--job-dir')
parser.add_argument('--gate')
arguments = parser.parse_args()
print('epoch 1', arguments.job_dir, PIL.__name__)
while not Path(arguments.gate).exists():
    time.sleep(0.05)
print('epoch 2')
"""
USER = "import graft_helper; print('helped by', graft_helper.__file__)"


@pytest.fixture
def engine(tmp_path: Path):
    for name in ("graft_helper", "graft_deep"):
        project = tmp_path / "simple" / name.replace("_", "-")
        project.mkdir(parents=True)
        requires = ["graft_deep>=1"] if name == "graft_helper" else []
        file = f"{name}-1-py3-none-any.whl"
        data = wheel(name, {f"{name}.py": "import graft_deep" if requires else ""}, requires=requires)
        (project / file).write_bytes(data)
        (project / "index.html").write_text(f'<a href="{file}">{file}</a>')
    with EngineProcess(tmp_path, package_index=(tmp_path / "simple").as_uri(), training_slots=2) as engine:
        engine.start()
        yield engine


def submit(engine: EngineProcess, job_id: str, uris: list[str], module: str, **more) -> None:
    value = {"packageUris": uris, "pythonModule": module, "region": "local", "scaleTier": "BASIC", **more}
    body = {"jobId": job_id, "trainingInput": value}
    engine.client().jobs().create(parent="projects/local", body=body).execute()


def put(engine: EngineProcess, name: str, data: bytes) -> str:
    engine.storage.write_bytes(f"gs://graft/packages/{name}", data)
    return f"gs://graft/packages/{name}"


def test_the_package_of_the_article_runs_and_its_log_streams(engine, tmp_path):
    files = {"setup.py": SETUP, "trainer/__init__.py": "", "trainer/task.py": ARTICLE}
    uri = put(engine, "trainer-0.0.0.tar.gz", sdist(files, folder="trainer-0.0.0"))
    gate, job_dir = tmp_path / "gate", "gs://graft/keras_job"
    submit(engine, "mlmagic__1", [uri], "trainer.task", jobDir=job_dir, args=["--gate", str(gate)])
    rest = RestMLEngine(engine.url, "local", "t")
    piece = wait_for(
        lambda: (found := rest.read_job_log("mlmagic__1")).text.endswith("PIL\n") and found, seconds=60
    )
    assert f"epoch 1 {engine.home}/buckets/graft/keras_job PIL" in piece.text  # printed while it runs
    assert not piece.is_complete
    gate.touch()
    engine.wait_job("mlmagic__1", "SUCCEEDED")
    last = rest.read_job_log("mlmagic__1", offset=piece.next_offset)
    assert (last.text, last.is_complete) == ("epoch 2\n", True)
    assert rest.job_log("mlmagic__1") == piece.text + last.text
    rest.close()


def test_what_packages_require_comes_from_the_index_for_one_job_alone(engine):
    plain = put(engine, "user-1-py3-none-any.whl", wheel("user", {"user.py": USER}))
    name = "needy-1-py3-none-any.whl"
    needy = put(engine, name, wheel("needy", {"needy.py": "import user"}, requires=["graft_helper", "user"]))
    greedy = put(engine, f"other/{name}", wheel("needy", {"needy.py": ""}, requires=["graft_nothing>=2"]))
    submit(engine, "with", [plain, needy], "needy")
    submit(engine, "without", [plain], "user")
    submit(engine, "unknown", [greedy], "needy")
    engine.wait_job("with", "SUCCEEDED")
    jobs = engine.home / "engine" / "jobs"
    assert f"helped by {jobs}/with/env/" in (jobs / "with" / "log.txt").read_text()
    assert "No module named 'graft_helper'" in engine.wait_job("without", "FAILED")["errorMessage"]
    message = engine.wait_job("unknown", "FAILED")["errorMessage"]
    assert message.startswith(
        f"{PACKAGES_REFUSED} needy 1 requires graft_nothing>=2, and the runtime does not have it. pip could"
    )
    assert "No matching distribution found for graft_nothing>=2" in message
