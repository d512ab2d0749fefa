"""Jobs in processes of their own: what they need TensorFlow for, and that a template equals an export."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import FeatureWork, TrainingRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.engine.backends import RunStatus, TrainingJob
from pipeline.engine.backends.local import LocalBackend, stop_all_jobs
from pipeline.engine.settings import EngineSettings
from pipeline.npz import read_npz, write_npz
from pipeline.storage import Storage
from pipeline.submission.package import MODULE, build_package
from pipeline.submission.staged_head import stage_head_text
from pipeline.tflite.manifest import check_tflite, read_manifest
from pipeline.tflite.network import ClassifierHead, read_classifier_head
from tests.fakes.clock import wait_for
from tests.integration.kinds_of_pictures import pictures
from tests.integration.trainer_pack import CLASSES, make_bucket, tiny_pictures

JOB = (
    "import sys; from pipeline.trainer.task import main; code = main(sys.argv[1:]); "
    "print('IMPORTED', *sorted({'tensorflow', 'keras'} & sys.modules.keys())); sys.exit(code)"
)
NEVER_THE_FIRST = json.dumps({CLASSES[0]: 1}).replace(" ", "")
OPTIONS = {
    "plain": "--calibration none",
    "temperature": "--calibration temperature --seed 3",
    "reject": "--reject-below 0.7 --calibration none --seed 4",
    "both": f"--reject-below 0.3 --reject-unlike 0.95 --seed 5 --thresholds {NEVER_THE_FIRST}",
    "logistic": "--head-type logistic --reject-below 0.6",
}
MISSING = (
    "No job has converted the backbone of these weights yet, and there is no template of these labels, units "
    "and versions yet"
)


class Ran(NamedTuple):
    record: TrainingRecord
    imported: list[str]
    log: str


class Bucket(NamedTuple):
    root: Path
    storage: Storage
    arguments: list[str]

    def run(self, name: str, *options: str) -> Ran:
        """Run a job in a process of its own."""
        uri = f"gs://graft/jobs/{name}"
        environ = {**os.environ, "GRAFT_BUCKETS": f"graft={self.root}"}
        arguments = [*self.arguments[:-1], uri, "--units", "16", "--epochs", "4", *options]
        command = [sys.executable, "-c", JOB, *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        [imported] = [line for line in done.stdout.splitlines() if line.startswith("IMPORTED")]
        record = TrainingRecord.read(JobDirectory(self.storage, uri))
        return Ran(record, imported.split()[1:], done.stdout)

    def damage(self, uri: str) -> None:
        """Change one byte in the middle of an object."""
        data = bytearray(self.storage.read_bytes(uri))
        data[len(data) // 2] ^= 1
        self.storage.write_bytes(uri, bytes(data))

    def shared(self, folder: str, suffix: str) -> list[str]:
        """Return the shared files of a kind."""
        return [uri for uri in self.storage.list_uris(f"gs://graft/{folder}/") if uri.endswith(suffix)]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    root = tmp_path_factory.mktemp("bucket")
    return Bucket(root, *make_bucket(root, *tiny_pictures(40)))


@pytest.fixture(scope="module")
def first(bucket: Bucket) -> Ran:
    return bucket.run("first")


def answers(directory: Path) -> Mapping[str, Any]:
    """Return what every signature answers."""
    loaded = tf.saved_model.load(str(directory))
    encoded = tf.constant(pictures()[:4])
    keys = tf.constant(["a", "b", "c", "d"])
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    signatures = loaded.signatures
    asked = {
        "serving_default": signatures["serving_default"](inputs=encoded),
        "pixels": signatures["pixels"](inputs=tf.constant(pixels)),
        "keyed": signatures["keyed"](key=keys, inputs=encoded),
        "explained": signatures["explained"](key=keys, inputs=encoded),
    }
    return {f"{name}.{key}": value.numpy() for name, answer in asked.items() for key, value in answer.items()}


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_first_job_makes_template_and_trunk_in_another_process(first: Ran, bucket: Bucket) -> None:
    assert first.imported == []
    assert first.record.tensorflow == (MISSING,)
    assert MISSING in first.log
    assert first.record.work == FeatureWork(forwarded=40, cached=0)
    assert len(bucket.shared("templates", ".pb")) == 1
    assert len(bucket.shared("light", ".tflite")) == 1


def test_a_cached_job_imports_neither_tensorflow_nor_keras(first: Ran, bucket: Bucket) -> None:
    again = bucket.run("again")
    assert again.imported == []
    assert again.record.tensorflow == ()
    assert again.record.work == FeatureWork(forwarded=0, cached=40)
    assert again.record.history == first.record.history
    assert again.record.tflite is not None
    assert again.record.tflite.pictures == 3
    assert again.record.tflite.largest_difference < 1e-5


@pytest.mark.parametrize(
    "name",
    ["both", *(pytest.param(name, marks=pytest.mark.soak) for name in sorted(OPTIONS.keys() - {"both"}))],
)
def test_a_model_of_a_template_equals_a_fresh_export(
    first: Ran, bucket: Bucket, name: str, tmp_path: Path
) -> None:
    job = bucket.run(name, *OPTIONS[name].split())
    assert job.imported == []
    assert (job.record.calibration is not None) == (name in ("temperature", "both", "logistic"))
    model, weights = bucket.root / "jobs" / name / "model", bucket.storage.local_path(bucket.arguments[3])
    check_tflite(model)
    script = str(Path(__file__).with_name("fresh_export.py"))
    command = [sys.executable, script, str(model), str(weights), str(tmp_path / "fresh")]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    files, fresh = files_of(model), files_of(tmp_path / "fresh")
    assert files.keys() - fresh.keys() == {"graft/light.json", "graft/network.tflite"}
    assert [path for path in fresh if files[path] != fresh[path]] == []
    ours, theirs = answers(model), answers(tmp_path / "fresh")
    assert {key: np.array_equal(value, theirs[key]) for key, value in ours.items()} == dict.fromkeys(
        ours, True
    )
    if name == "both":
        check_labels(ours, read_classifier_head(model, read_manifest(model)))


def check_labels(ours: Mapping[str, Any], head: ClassifierHead) -> None:
    """The graph applies the threshold of each class, as NumPy does."""
    outputs, novelty = ours["keyed.outputs"], ours["keyed.novelty"]
    labels = [label.decode() for label in ours["keyed.label"]]
    assert labels == [
        head.label(row, float(value), may_reject=True)[0] for row, value in zip(outputs, novelty, strict=True)
    ]
    best = [CLASSES[index] for index in outputs.argmax(1)]
    limits = {CLASSES[0]: 1, CLASSES[1]: 0.3}
    kept = [row.max() >= limits[label] for row, label in zip(outputs, best, strict=True)]
    assert labels == [
        label if is_kept and value <= 0.95 else ""
        for label, is_kept, value in zip(best, kept, novelty, strict=True)
    ]


def test_other_labels_need_a_template_and_no_trunk(first: Ran, bucket: Bucket, tmp_path: Path) -> None:
    index = bucket.storage.read_json(bucket.arguments[1])
    bucket.storage.write_json("gs://graft/packs/d_1/index.json", {**index, "classes": ["ä", "b", "c"]})
    other = Bucket(
        bucket.root,
        bucket.storage,
        ["--pack-index", "gs://graft/packs/d_1/index.json", *bucket.arguments[2:]],
    )
    job = other.run("other-labels")
    assert job.record.tensorflow == ("There is no template of these labels, units and versions yet",)
    assert job.record.work.forwarded == 0
    assert len(bucket.shared("light", ".tflite")) == 1
    assert other.run("other-labels-again").record.tensorflow == ()


def test_a_head_module_is_exported_afresh_and_the_job_says_so(first: Ran, bucket: Bucket) -> None:
    text = b"import keras as k\ndef build_head(width, classes):\n"
    text += b"    softmax = k.layers.Dense(classes, 'softmax')\n"
    text += b"    return k.Sequential([k.Input((width,)), softmax])\n"
    head = stage_head_text(Workspace(bucket.storage, "gs://graft"), text, origin="head.py")
    job = bucket.run("module", "--head-module", head.uri)
    assert job.imported == ["keras", "tensorflow"]
    assert job.record.tensorflow == (f"The head is built by {head.uri}",)
    assert f"This job needs TensorFlow: The head is built by {head.uri}" in job.log
    assert job.record.work == FeatureWork(forwarded=0, cached=40)
    assert job.record.tflite is None
    outputs = answers(bucket.root / "jobs" / "module" / "model")["pixels.outputs"]
    assert outputs.sum(1) == pytest.approx(1, abs=1e-5)


def status_of(backend: LocalBackend) -> RunStatus:
    return asyncio.run(backend.statuses(["j1"]))["j1"]


def test_a_job_in_the_sandbox_shares_template_and_trunk(first: Ran, bucket: Bucket, tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path / "buckets" / "graft"})
    for folder in ("packs", "weights"):
        shutil.copytree(bucket.root / folder, tmp_path / "buckets" / "graft" / folder)
    storage.write_bytes("gs://graft/packages/own.tar.gz", build_package().data)
    backend = LocalBackend(tmp_path, storage, EngineSettings())
    job = TrainingJob(
        job_id="j1",
        package_uris=("gs://graft/packages/own.tar.gz",),
        python_module=MODULE,
        args=(*bucket.arguments[:-2], "--units", "16", "--epochs", "2"),
        job_dir="gs://graft/jobs/j1",
        max_running_seconds=300.0,
        training_input={},
    )
    try:
        asyncio.run(backend.start(job))
        status = wait_for(lambda: (now := status_of(backend)).is_over and now, seconds=300)
        size = asyncio.run(backend.log_size("j1"))
        log = asyncio.run(backend.log("j1", 0, size)).decode()
        assert status.exit_code == 0, log
    finally:
        stop_all_jobs(tmp_path, grace_seconds=0)
    assert "is not kept for later jobs" not in log
    record = TrainingRecord.read(JobDirectory(storage, "gs://graft/jobs/j1"))
    assert record.tensorflow == (MISSING,)
    shared = Bucket(tmp_path, storage, []).shared
    assert len(shared("templates", ".pb")) == len(shared("templates", ".json")) == 1
    assert len(shared("light", ".tflite")) == len(shared("light", ".json")) == 1


class TestDamage:
    @pytest.fixture
    def damaged(self, first: Ran, bucket: Bucket, tmp_path: Path) -> Bucket:
        """A copy of the bucket, to be damaged."""
        root = tmp_path / "bucket"
        subprocess.run(["cp", "-r", str(bucket.root), str(root)], check=True)
        return Bucket(root, Storage({"graft": root}), bucket.arguments)

    @pytest.mark.parametrize(("folder", "suffix"), [("templates", ".pb"), ("light", ".tflite")])
    def test_a_damaged_file_is_refused_by_name_and_made_again(
        self, damaged: Bucket, folder: str, suffix: str
    ) -> None:
        uris = damaged.shared(folder, suffix)
        for uri in uris:
            damaged.damage(uri)
        job = damaged.run("after-damage")
        assert any(f"{uri} is refused, and made again" in job.log for uri in uris)
        assert job.imported == []
        assert len(job.record.tensorflow) == 1
        check_tflite(damaged.root / "jobs" / "after-damage" / "model")
        assert len(damaged.shared(folder, suffix)) == len(uris) + 1
        assert damaged.run("later").record.tensorflow == ()

    def test_a_record_that_cannot_be_read_is_refused_by_name(self, damaged: Bucket) -> None:
        [uri] = damaged.shared("light", ".json")
        damaged.storage.write_bytes(uri, b"{")
        job = damaged.run("after-damage")
        assert f"{uri} is refused" in job.log
        assert damaged.run("later").record.tensorflow == ()

    def test_features_that_are_not_the_trunks_are_found_out(self, damaged: Bucket) -> None:
        [uri] = damaged.shared("features", ".npz")
        arrays = read_npz(damaged.storage.read_bytes(uri))
        damaged.storage.write_bytes(uri, write_npz({**arrays, "features": arrays["features"] * 1.5}))
        environ = {**os.environ, "GRAFT_BUCKETS": f"graft={damaged.root}"}
        command = [sys.executable, "-m", "pipeline.trainer.task", *damaged.arguments, "--epochs", "2"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode != 0
        assert "LiteRT's features of the first pictures differ from the cached ones" in done.stdout
        assert "SignatureMismatch" in done.stdout
