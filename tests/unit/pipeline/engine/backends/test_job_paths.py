from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.job_paths import JobPaths, local_argument
from pipeline.storage import S3Address

DIRECTORIES = {"graft": Path("/b/graft"), "data.of-us": Path("/data")}
S3 = S3Address(bucket="company", prefix="p")


def paths(*args: str, mode: str = "local", job_dir: str | None = None, **changes: Any) -> JobPaths:
    job = TrainingJob(
        job_id="j",
        package_uris=("gs://graft/p.tar.gz",),
        python_module=changes.pop("python_module", "trainer.task"),
        args=args,
        job_dir=job_dir,
        max_running_seconds=1.0,
        training_input={},
    )
    return JobPaths(job=job, addresses={**DIRECTORIES, "cold": S3}, mode=mode)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("gs://graft/a/b.csv", "/b/graft/a/b.csv"),
        ("gs://graft", "/b/graft"),
        ("gs://graft/", "/b/graft/"),
        ("--data=gs://data.of-us/x", "--data=/data/x"),
        ("gs://graft/a*.csv,gs://data.of-us/b", "/b/graft/a*.csv,/data/b"),
        ("--files=gs://graft/a;gs://remote/b", "--files=/b/graft/a;gs://remote/b"),
        ('{"train": "gs://graft/a", "n": 1}', '{"train": "/b/graft/a", "n": 1}'),
        ("gs://graft/a file of gs://graft", "/b/graft/a file of /b/graft"),
        ("gs://graft/../private", "gs://graft/../private"),
        ("gs://graft2/x", "gs://graft2/x"),
        ("gs://remote/x", "gs://remote/x"),
        ("logs://graft/x", "logs://graft/x"),
        ("--job-dir", "--job-dir"),
        ("s3://graft/x", "s3://graft/x"),
    ],
)
def test_uris_of_mapped_buckets_become_paths_wherever_they_stand(argument: str, expected: str) -> None:
    assert local_argument(argument, DIRECTORIES) == expected


def test_the_job_dir_ends_the_command_line_and_its_variable_is_a_uri() -> None:
    found = paths("--epochs", "3", "--train", "gs://graft/t", job_dir="gs://graft/jobs/j")
    assert found.arguments == ["--epochs", "3", "--train", "/b/graft/t", "--job-dir", "/b/graft/jobs/j"]
    assert found.environment["CLOUD_ML_JOB_DIR"] == "gs://graft/jobs/j"
    assert found.notes == [
        "Buckets: gs://graft is /b/graft; its arguments hold paths (GRAFT_ENGINE_JOB_PATHS=local).",
        "google.cloud.storage finds them at STORAGE_EMULATOR_HOST.",
    ]
    assert json.loads(json.dumps(found.notes)) == found.notes


def test_uris_stay_where_the_setting_wants_them_and_the_client_still_finds_them() -> None:
    found = paths("gs://graft/t", job_dir="gs://graft/j", mode="gs")
    assert found.arguments == ["gs://graft/t", "--job-dir", "gs://graft/j"]
    assert found.has_bucket_server


@pytest.mark.parametrize("module", ["pipeline.trainer.task", "pipeline.trainer.cells"])
def test_our_own_trainer_reads_uris_itself(module: str) -> None:
    found = paths("--pack-index", "gs://graft/p", job_dir="gs://graft/j", python_module=module)
    assert found.arguments == ["--pack-index", "gs://graft/p", "--job-dir", "gs://graft/j"]
    assert (found.has_bucket_server, found.notes) == (False, [])


def test_with_a_bucket_of_googles_the_client_is_left_with_google() -> None:
    found = paths("--in=gs://remote/x", job_dir="gs://graft/j")
    assert found.arguments == ["--in=gs://remote/x", "--job-dir", "/b/graft/j"]
    assert not found.has_bucket_server
    assert "google.cloud.storage asks Google" in found.notes[1]
    remote = paths("--in=gs://remote/x", job_dir="gs://remote/j")
    assert remote.arguments == ["--in=gs://remote/x", "--job-dir", "gs://remote/j"]
    assert (remote.has_bucket_server, remote.notes) == (False, [])
    assert remote.environment == {"CLOUD_ML_JOB_DIR": "gs://remote/j"}


def test_a_job_without_buckets_gets_nothing() -> None:
    found = paths("--epochs", "3")
    assert (found.arguments, found.environment, found.notes) == (["--epochs", "3"], {}, [])
    assert not found.has_bucket_server


def test_a_bucket_in_a_store_of_s3_is_said_to_need_another_client() -> None:
    found = paths("--train=gs://cold/t", job_dir="gs://graft/jobs/j")
    assert found.arguments == ["--train=gs://cold/t", "--job-dir", "/b/graft/jobs/j"]
    assert not found.has_bucket_server
    assert found.notes[-1] == (
        "gs://cold is s3://company/p, which tf.io.gfile and google.cloud.storage do not open: use a client "
        "of S3; the variables AWS_... hold its key."
    )
    assert paths("gs://cold/t", python_module="pipeline.trainer.task").notes == []
