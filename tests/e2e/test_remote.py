"""What is served is what was trained, and a job is what its package says: on the demo's own stack."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline.ml_engine.rest import RestMLEngine
from pipeline.npz import read_npz
from pipeline.submission.package import build_package
from tests.e2e.conftest import Stack, wait_until

NUM_PICTURES = 50
MARKER = "9.9.9"


@pytest.fixture(scope="module")
def engine(stack: Stack) -> Iterator[RestMLEngine]:
    status = stack.status["engine"]
    with closing(RestMLEngine(status["url"], status["project"], status["token"])) as engine:
        yield engine


@pytest.fixture(scope="module")
def version(stack: Stack) -> str:
    (name,) = [row["version"] for row in stack.graft_json("versions", "surfaces") if row["is_default"]]
    return str(name)


def varied_pictures() -> list[bytes]:
    """50 crops, half of what the model knows and half of what it never saw, where outputs are steep.

    EXIF orientations, transparency, CMYK, grey, palette and WebP are among both.
    """
    from skimage import data

    random = np.random.default_rng(5)
    textures = [
        Image.fromarray(np.stack([picture()] * 3, -1)) for picture in (data.brick, data.grass, data.gravel)
    ]
    strange = [Image.fromarray(picture()) for picture in (data.astronaut, data.coffee)]
    pictures = []
    for number in range(NUM_PICTURES):
        photographs = textures if number < NUM_PICTURES // 2 else strange
        photograph = photographs[number % len(photographs)]
        left, top = (int(value) for value in random.integers(0, 200, 2))
        width, height = (int(value) for value in random.integers(64, 300, 2))
        crop = photograph.crop((left, top, left + width, top + height))
        pictures.append(encode(crop, number))
    return pictures


def encode(crop: Image.Image, number: int) -> bytes:
    buffer = io.BytesIO()
    kind = number % 7
    if kind < 2:
        exif = Image.Exif()
        exif[0x0112] = number % 8 + 1
        crop.save(buffer, "JPEG", quality=90, exif=exif)
    elif kind == 2:
        alpha = Image.linear_gradient("L").resize(crop.size)
        crop.putalpha(alpha)
        crop.save(buffer, "PNG")
    elif kind == 3:
        crop.convert("CMYK").save(buffer, "JPEG", quality=90)
    elif kind == 4:
        crop.convert("L").save(buffer, "JPEG", quality=90)
    elif kind == 5:
        crop.save(buffer, "WEBP", quality=90)
    else:
        crop.convert("P").save(buffer, "PNG")
    return buffer.getvalue()


def test_50_served_outputs_equal_the_trainers_on_the_same_bytes(
    stack: Stack, engine: RestMLEngine, version: str
) -> None:
    from pipeline.backbones.networks.folded import build_network
    from pipeline.backbones.table import find_backbone
    from pipeline.backbones.weights import read_weights
    from pipeline.pixels.graph import decode_and_resize
    from pipeline.pixels.host import decode_picture, resize_picture
    from pipeline.tflite.head import Head

    storage, pictures = stack.storage, varied_pictures()
    model = f"gs://graft/models/surfaces/{version}/graft"
    lineage = storage.read_json(f"{model}/lineage.json")
    backbone = find_backbone("efficientnet_lite0")
    network = build_network(
        backbone.name, read_weights(storage.local_path(weights_in(lineage)), backbone.name)
    )
    head = Head(**read_npz(storage.local_path(f"{model}/head.weights.npz")))
    host = np.stack([resize_picture(decode_picture(data), backbone.spec) for data in pictures])
    graph = np.stack([np.asarray(decode_and_resize(data, backbone.spec)) for data in pictures])
    instances = [{"inputs": {"b64": base64.b64encode(data).decode()}} for data in pictures]
    served = np.array([row["outputs"] for row in engine.predict("surfaces", instances, version=version)])
    assert np.ptp(served[:, 0]) > 0.1, "the pictures must not all look the same to the model"
    np.testing.assert_allclose(served, head.predict(network(host).numpy()), atol=1e-3)
    np.testing.assert_allclose(served, head.predict(network(graph).numpy()), atol=1e-3)


def weights_in(lineage: dict[str, Any]) -> str:
    found = [value for value in _strings(lineage) if value.startswith("gs://graft/weights/")]
    assert found, lineage
    return found[0]


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def test_a_job_runs_its_own_package_and_not_the_checkout(
    stack: Stack, engine: RestMLEngine, tmp_path: Path
) -> None:
    root = tmp_path / "pipeline"
    shutil.copytree(Path(pipeline.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "__init__.py").write_text(f'"""Marked."""\n\n__version__ = "{MARKER}"\n')
    package = build_package(root)
    package_uri = f"gs://graft/packages/{package.digest}.tar.gz"
    stack.storage.create_bytes(package_uri, package.data)
    jobs = stack.engine_get("jobs")["jobs"]
    (known, *_) = [job for job in jobs if "trainingInput" in job and job["state"] == "SUCCEEDED"]
    job_dir = "gs://graft/jobs/marked"
    given = known["trainingInput"]
    arguments = given["args"]
    body = {
        "jobId": "marked",
        "trainingInput": given | {"packageUris": [package_uri], "jobDir": job_dir, "args": arguments},
    }
    engine.create_job(body)
    job = wait_until(
        lambda: (found := stack.engine_get("jobs/marked"))["state"] in ("SUCCEEDED", "FAILED") and found,
        seconds=180,
        what="end of the job",
    )
    assert job["state"] == "SUCCEEDED", job.get("errorMessage")
    reported = stack.storage.read_json(f"{job_dir}/training.json")["package"]
    assert reported["version"] == MARKER != pipeline.__version__
    assert not reported["file"].startswith(str(Path(pipeline.__file__).parent))


def test_an_unknown_conf_key_fails_the_first_task_with_its_name(stack: Stack) -> None:
    api = stack.airflow()
    run_id = api.trigger("surfaces", {"model.epoch": 1})
    wait_until(lambda: api.run_state("surfaces", run_id) == "failed", seconds=120, what="failed run")
    tasks = {task.task_id: task for task in api.task_instances("surfaces", run_id)}
    assert tasks["fetch"].state == "failed"
    assert tasks["fetch"].try_number == 1
    assert tasks["clean"].state == "upstream_failed"
