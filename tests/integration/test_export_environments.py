"""Each format of an export answers as the engine does, in an environment that has only what it needs."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.workspace import Workspace
from pipeline.export.archive import export_version
from pipeline.export.formats import ExportFormat
from tests.fakes.model_record import lineage
from tests.integration.engine_process import EngineProcess
from tests.integration.trainer_pack import CLASSES, make_bucket, run_job, tiny_pictures
from tests.unit.test_requirements import pins

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]  # environments are installed
NUM_PICTURES = 50
PREDICT_EACH = """
import runpy, sys
for file in sys.argv[1:]:
    sys.argv = ["predict.py", file]
    runpy.run_path("predict.py")
"""  # in one process: some formats take seconds to import
MODEL_URI = "gs://graft/jobs/1/model"  # of the job that `make_bucket` has the arguments of
NEEDS = {
    ExportFormat.TFLITE: ("ai-edge-litert", "numpy", "pillow"),
    ExportFormat.ONNX: ("onnxruntime", "numpy", "pillow"),
    ExportFormat.KERAS: ("keras", "tensorflow", "numpy", "pillow"),
    ExportFormat.SAVEDMODEL: ("tensorflow", "numpy", "pillow"),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, (arrays, _) = tmp_path_factory.mktemp("pictures"), tiny_pictures(NUM_PICTURES)
    files = [folder / f"{number}.png" for number in range(NUM_PICTURES)]
    for array, file in zip(arrays, files, strict=True):
        Image.fromarray(array).resize((90, 70 + len(file.name))).save(file)
    return files


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """An engine that serves a version whose network is trained on pictures of two kinds."""
    home = tmp_path_factory.mktemp("home")
    storage, arguments = make_bucket(home / "buckets" / "graft", *tiny_pictures())
    run_job(storage, arguments, "--units", "16", "--epochs", "2")
    weights_uri = arguments[arguments.index("--weights") + 1]
    storage.write_json(ModelDirectory(storage, MODEL_URI).lineage, lineage(weights_uri=weights_uri).to_dict())
    with EngineProcess(home) as engine:
        engine.start()
        engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
        assert engine.deploy("m", "v1", MODEL_URI)["response"]["state"] == "READY"
        yield engine


@pytest.fixture(scope="module")
def answers(engine: EngineProcess, pictures: list[Path]) -> list[tuple[str, list[float]]]:
    instances = [
        {"key": file.name, "inputs": {"b64": base64.b64encode(file.read_bytes()).decode()}}
        for file in pictures
    ]
    url = f"{engine.url}/v1/projects/local/models/m:predict"
    body = {"signature_name": "keyed", "instances": instances}
    answer = requests.post(url, json=body, timeout=120)
    return [(each["label"], each["outputs"]) for each in answer.json()["predictions"]]


@pytest.mark.parametrize("format", list(ExportFormat))
def test_the_program_answers_as_the_engine_in_an_environment_of_its_own(
    format: ExportFormat,
    engine: EngineProcess,
    pictures: list[Path],
    answers: list[tuple[str, list[float]]],
    tmp_path: Path,
) -> None:
    workspace = Workspace(engine.storage, "gs://graft")
    export_version(workspace, model="m", version="v1", format=format, file=tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as archive:
        archive.extractall(tmp_path)
    python = make_environment(tmp_path / "environment", NEEDS[format])
    command = [str(python), "-c", PREDICT_EACH, *map(str, pictures)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr
    differences = []
    for line, (label, outputs) in zip(done.stdout.splitlines(), answers, strict=True):
        answer, *probabilities = line.split()
        assert answer == label
        differences.append(np.abs(np.array(probabilities, np.float64) - outputs).max())
    print(f"{format.value}: {len(differences)} pictures, largest difference {max(differences):.1e}")  # noqa: T201
    assert max(differences) < 1e-3
    assert {label for label, _ in answers} == set(CLASSES)


def make_environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make an environment with these packages at the versions that Graft is locked to; return its Python."""
    locked = {**pins("requirements-dev.txt"), **pins("requirements.txt")}
    wanted = [f"{name}=={locked[name]}" for name in packages]
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv is not None
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True, timeout=300)
    python = folder / "bin" / "python"
    command = [uv, "pip", "install", "--quiet", "--python", str(python), *wanted]
    subprocess.run(command, check=True, timeout=900)
    absent = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pipeline') is not None)"
    subprocess.run([str(python), "-c", absent], check=True, cwd=folder, timeout=60)
    return python
