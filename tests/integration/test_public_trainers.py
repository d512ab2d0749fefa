"""Trainers that know nothing of Graft run unchanged when their bucket is a directory of this machine."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration import public_trainers
from tests.integration.engine_process import EngineProcess
from tests.packages import wheel

CSV = "".join(f"{number},{number % 3},{int(number > 4)}\n" for number in range(10))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    engine = EngineProcess(tmp_path_factory.mktemp("home"))
    engine.storage.write_bytes("gs://graft/census/train.csv", CSV.encode())
    engine.storage.write_bytes("gs://graft/census/train2.csv", CSV.encode())
    (engine.home / "buckets" / "private").mkdir()
    engine.start()
    yield engine
    engine.close()


def run(engine: EngineProcess, name: str, program: str, *args: str) -> tuple[Path, str]:
    """Run a trainer; return its job directory and its log."""
    uri, job_dir = f"gs://graft/packages/{name}/trainer-1-py3-none-any.whl", f"gs://graft/jobs/{name}"
    engine.storage.write_bytes(uri, wheel("trainer", {"trainer/__init__.py": "", "trainer/task.py": program}))
    value = {"packageUris": [uri], "pythonModule": "trainer.task", "args": list(args), "jobDir": job_dir}
    value |= {"region": "us-central1", "runtimeVersion": "2.21"}
    body = {"jobId": name, "trainingInput": value}
    engine.client().jobs().create(parent="projects/local", body=body).execute()
    job = engine.wait_job(name, "SUCCEEDED", "FAILED", seconds=300)
    log = (engine.home / "engine" / "jobs" / name / "log.txt").read_text()
    assert job["state"] == "SUCCEEDED", log
    assert job["trainingInput"] == value
    return engine.home / "buckets" / "graft" / "jobs" / name, log


def test_a_csv_file_that_is_opened(engine: EngineProcess) -> None:
    job_dir, log = run(engine, "csv", public_trainers.SKLEARN_CSV, "--train-file=gs://graft/census/train.csv")
    assert "accuracy 1.0" in log
    assert pickle.loads((job_dir / "model.pkl").read_bytes()).coef_.shape == (1, 2)


def test_the_storage_client_of_google(engine: EngineProcess) -> None:
    arguments = ("--bucket", "graft", "--data", "gs://graft/census")
    job_dir, log = run(engine, "upload", public_trainers.STORAGE_UPLOAD, *arguments)
    assert pickle.loads((job_dir / "model.pkl").read_bytes()) == 10
    assert "precondition kept" in log
    assert [line.split()[1] for line in log.splitlines() if line.startswith("forbidden ")] == [
        *("census/train.csv", "models/m/v/saved_model.pb", "jobs/other/x")
    ]
    assert "no other bucket" in log
    assert "left ['jobs/upload/model.pkl']" in log
    assert f"open sees ['model.pkl'] {job_dir}" in log
    assert engine.storage.read_bytes("gs://graft/census/train.csv") == CSV.encode()


@pytest.mark.soak
class TestTensorFlow:
    def test_census_with_tf_data(self, engine: EngineProcess) -> None:
        files = ("--train-files", "gs://graft/census/train.csv", "gs://graft/census/train2.csv")
        job_dir, _ = run(engine, "census", public_trainers.CENSUS, *files)
        assert (job_dir / "export" / "saved_model.pb").exists()

    def test_flowers_with_pictures(self, engine: EngineProcess) -> None:
        for number, name in enumerate(("daisy", "tulips")):
            Image.new("RGB", (12, 12), (200 * number, 40, 10)).save(data := io.BytesIO(), "PNG")
            engine.storage.write_bytes(f"gs://graft/flowers/{name}/1.png", data.getvalue())
        job_dir, _ = run(engine, "flowers", public_trainers.FLOWERS, "--data_dir=gs://graft/flowers")
        assert (job_dir / "labels.txt").read_text() == "daisy\ntulips"
        engine.client().models().create(parent="projects/local", body={"name": "flowers"}).execute()
        assert "error" not in engine.deploy("flowers", "v1", "gs://graft/jobs/flowers/model/1")

    def test_mnist_with_gfile(self, engine: EngineProcess) -> None:
        np.savez(data := io.BytesIO(), x=np.zeros((8, 28, 28), np.uint8), y=np.arange(8))
        engine.storage.write_bytes("gs://graft/mnist.npz", data.getvalue())
        job_dir, log = run(engine, "mnist", public_trainers.MNIST, "--train-file", "gs://graft/mnist.npz")
        assert {path.name for path in job_dir.iterdir()} == {"checkpoints", "log.csv", "model.keras"}
        assert [path.name for path in sorted((job_dir / "checkpoints").iterdir())] == ["1.keras", "2.keras"]
