"""The contract of a bucket against servers that others wrote: moto for S3, fake-gcs-server for Google's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pipeline.storage import S3Address, Storage
from pipeline.storage.s3_bucket import s3_client
from tests.bucket_contract import BucketContract
from tests.clients.servers import running_google, running_moto
from tests.fakes.s3 import use_keys

pytestmark = [pytest.mark.integration, pytest.mark.soak]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running_moto() as url:
        yield url


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with running_google() as url:
        yield url


class TestMoto(BucketContract):
    @pytest.fixture
    def both(self, moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Storage:
        use_keys(monkeypatch)
        name = f"bucket-{uuid.uuid4().hex}"
        s3_client(moto, "").create_bucket(Bucket=name)
        return Storage({"graft": S3Address(bucket=name, prefix="a/b", endpoint=moto)}, cache=tmp_path)

    def test_a_large_object_comes_back_whole(self, both: Storage) -> None:
        data = b"0123456789abcdef" * 2**20 + b"the end"
        both.write_large("gs://graft/a", lambda file: file.write(data))
        assert both.local_path("gs://graft/a").read_bytes() == data
        assert not both.write_large("gs://graft/a", lambda file: file.write(b"2"), if_absent=True)
        assert both.write_large("gs://graft/b", lambda file: file.write(data), if_absent=True)
        assert both.read_bytes("gs://graft/b") == data


class TestGoogle(BucketContract):
    @pytest.fixture
    def both(self, google: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
        for bucket in requests.get(f"{google}/storage/v1/b", timeout=30).json().get("items", []):
            assert bucket["name"] == "graft"
            storage = Storage({}, cache=tmp_path)
            storage.delete_tree("gs://graft/")
        requests.post(f"{google}/storage/v1/b", json={"name": "graft"}, timeout=30)
        return Storage({}, cache=tmp_path)
