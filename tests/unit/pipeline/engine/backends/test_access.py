from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.compare.jobs import MODULE as COMPARISON
from pipeline.compare.study import MODULE as TRIAL
from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.access import CACHES, JobAccess, is_our_package
from pipeline.engine.settings import EngineSettings
from pipeline.storage import S3Address, Storage
from pipeline.submission.package import MODULE, build_package
from tests.packages import sdist

S3 = S3Address(bucket="company", endpoint="https://minio.example")


@pytest.fixture
def buckets(tmp_path: Path) -> Path:
    return tmp_path / "buckets"


def access(tmp_path: Path, *, job_reads: str = "", **changes: Any) -> JobAccess:
    values: dict[str, Any] = {
        "job_id": "j",
        "package_uris": ("gs://graft/p.tar.gz",),
        "python_module": "pipeline.trainer.task",
        "args": (),
        "job_dir": "gs://graft/jobs/j",
        "max_running_seconds": 1.0,
        "training_input": {},
    }
    names = ("graft", "pictures", "other")
    return JobAccess(
        job=TrainingJob(**{**values, **changes}),
        directory=tmp_path / "engine" / "jobs" / "j",
        storage=Storage({**{name: tmp_path / "buckets" / name for name in names}, "cold": S3}),
        workspace="gs://graft",
        settings=EngineSettings(job_reads=job_reads),
    )


def put_package(tmp_path: Path, data: bytes, *, place: str = "0") -> Path:
    path = tmp_path / "engine" / "jobs" / "j" / "packages" / place / "p.tar.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


class TestBuckets:
    def test_a_job_reads_the_buckets_of_its_arguments_and_of_its_job_dir(
        self, tmp_path: Path, buckets: Path
    ) -> None:
        read = access(tmp_path, args=("--in=gs://pictures/a,gs://remote/b",)).run({}).read
        assert {str(buckets / "graft"), str(buckets / "pictures")} <= set(read)
        assert str(buckets / "other") not in read

    def test_a_job_that_names_none_reads_none(self, tmp_path: Path, buckets: Path) -> None:
        read = access(tmp_path, job_dir=None).run({}).read
        assert [path for path in read if path.startswith(str(buckets))] == []

    def test_settings_name_what_else_is_read(self, tmp_path: Path, buckets: Path) -> None:
        for path in (buckets / "other" / "a", tmp_path / "shared"):
            path.mkdir(parents=True)
        read = access(tmp_path, job_reads=f"gs://other/a, {tmp_path}/shared,/nowhere").run({}).read
        assert {str(buckets / "other" / "a"), str(tmp_path / "shared")} <= set(read)
        assert "/nowhere" not in read

    def test_neither_installation_nor_build_reads_a_bucket(self, tmp_path: Path, buckets: Path) -> None:
        job = access(tmp_path, args=("gs://pictures",))
        for policy in (job.prepare({}), job.build({})):
            assert [path for path in policy.read if path.startswith(str(buckets))] == []
            assert policy.output == policy.fill == ()


class TestKeys:
    ENVIRON = {"HOME": "/home/us", "AWS_ACCESS_KEY_ID": "us", "AWS_SECRET_ACCESS_KEY": "s", "OTHER": "x"}

    def test_a_job_gets_them_if_it_names_a_bucket_in_a_store_of_s3(self, tmp_path: Path) -> None:
        job = access(tmp_path, args=("--in=gs://cold/a",))
        files = {
            "AWS_SHARED_CREDENTIALS_FILE": "/home/us/.aws/credentials",
            "AWS_CONFIG_FILE": "/home/us/.aws/config",
        }
        keys = {"AWS_ACCESS_KEY_ID": "us", "AWS_SECRET_ACCESS_KEY": "s"}
        assert job.secrets(self.ENVIRON) == keys | files
        assert set(files.values()) <= set(job.run(self.ENVIRON).read)
        assert "cold=s3://company?endpoint=https://minio.example" in job.environment()["GRAFT_BUCKETS"]

    def test_no_other_job_and_no_installation_does(self, tmp_path: Path) -> None:
        other, job = access(tmp_path), access(tmp_path, args=("gs://cold/a",))
        assert other.secrets(self.ENVIRON) == {}
        for policy in (other.run(self.ENVIRON), job.prepare(self.ENVIRON), job.build(self.ENVIRON)):
            assert not any(".aws" in path for path in policy.read)


class TestJobDir:
    def test_it_is_written(self, tmp_path: Path, buckets: Path) -> None:
        metrics = str(tmp_path / "engine" / "jobs" / "j" / "metrics")
        assert access(tmp_path).run({}).output == (metrics, str(buckets / "graft" / "jobs" / "j"))
        assert access(tmp_path, job_dir="gs://pictures").run({}).output == (
            metrics,
            str(buckets / "pictures"),
        )

    @pytest.mark.parametrize(
        "job_dir",
        [
            *("gs://graft", "gs://graft/", "gs://graft/models/flowers/v1", "gs://graft/features"),
            *("gs://graft/x/../models", "gs://remote/x", None),
        ],
    )
    def test_what_belongs_to_the_engine_is_not(self, tmp_path: Path, job_dir: str | None) -> None:
        metrics = str(tmp_path / "engine" / "jobs" / "j" / "metrics")
        assert access(tmp_path, job_dir=job_dir).run({}).output == (metrics,)


class TestOurTrainer:
    @pytest.mark.parametrize("module", [MODULE, COMPARISON, TRIAL])
    def test_it_may_add_to_the_caches_of_the_workspace(
        self, tmp_path: Path, buckets: Path, module: str
    ) -> None:
        put_package(tmp_path, build_package().data)
        made = access(tmp_path, python_module=module).run({}).fill
        assert made == tuple(str(buckets / "graft" / name) for name in CACHES)

    def test_its_package_beside_another_may_not(self, tmp_path: Path) -> None:
        put_package(tmp_path, build_package().data)
        put_package(tmp_path, sdist({"setup.py": ""}), place="1")
        assert access(tmp_path).run({}).fill == ()

    def test_another_module_of_its_package_may_not(self, tmp_path: Path) -> None:
        put_package(tmp_path, build_package().data)
        assert access(tmp_path, python_module="pipeline.trainer.cells").run({}).fill == ()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("setup.py", "import os"),
            ("pipeline/trainer/task.py", "import os"),
            ("pipeline/new.py", ""),
            ("sitecustomize.py", ""),
            ("pipeline/../../x.py", ""),
        ],
    )
    def test_a_package_with_one_other_file_is_not_ours(self, tmp_path: Path, name: str, text: str) -> None:
        original = put_package(tmp_path, build_package().data)
        changed = tmp_path / "changed.tar.gz"
        with tarfile.open(original) as source, tarfile.open(changed, "w:gz") as target:
            folder = source.getnames()[0].partition("/")[0]
            for info in source:
                target.addfile(info, source.extractfile(info))
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(text)
            target.addfile(info, io.BytesIO(text.encode()))
        assert is_our_package(original)
        assert not is_our_package(changed)

    def test_what_is_no_archive_is_not_ours(self, tmp_path: Path) -> None:
        assert not is_our_package(put_package(tmp_path, b"no archive"))


def test_what_keras_downloaded_is_there_for_a_job(tmp_path: Path) -> None:
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    (models / "weights.h5").write_text("weights")
    job = access(tmp_path)
    for _ in range(2):
        job.make_directories({"KERAS_HOME": str(tmp_path / "keras")})
    home = Path(job.environment()["KERAS_HOME"])
    assert (home / "models" / "weights.h5").read_text() == "weights"


def test_files_that_pip_is_told_of_are_read_at_installation(tmp_path: Path) -> None:
    environ = {
        "PIP_CONFIG_FILE": "/a/pip.conf",
        "PIP_EXTRA_INDEX_URL": "https://x/y file:///b%20c",
        "HOME": "/h",
    }
    read = access(tmp_path).prepare(environ).read
    assert {"/a/pip.conf", "/b c", "/h/.config/pip"} <= set(read)
