"""The demo with its workspace in an S3-compatible store: every step, the job, the served version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.storage import S3Address, Storage
from pipeline.storage.s3_bucket import s3_client
from tests.clients.servers import running_moto
from tests.fakes.s3 import use_keys

pytestmark = [pytest.mark.e2e, pytest.mark.soak]
SECRET = "a-key-that-nothing-may-show"
GRAFT = Path(sys.executable).with_name("graft")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    use_keys(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    for name in [name for name in os.environ if name.startswith("GRAFT_") and name != "GRAFT_TEST_CLIENTS"]:
        monkeypatch.delenv(name)
    with running_moto() as url:
        s3_client(url, "").create_bucket(Bucket="company")
        address = S3Address(bucket="company", prefix="team", endpoint=url)
        monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("GRAFT_BUCKETS", f"graft={address}")
        try:
            yield Storage({"graft": address}, cache=tmp_path / "cache")
        finally:
            graft("down")


def graft(*words: str) -> str:
    run = subprocess.run([GRAFT, *words], capture_output=True, text=True, timeout=1500)
    assert run.returncode == 0, f"{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    return run.stdout


@pytest.mark.timeout(1800)
def test_the_demo_ends_with_a_served_version(storage: Storage, tmp_path: Path) -> None:
    said = graft("demo")
    findings = json.loads(graft("doctor", "--json"))["findings"]
    [bucket] = [finding for finding in findings if finding["check"] == "bucket gs://graft"]
    assert bucket["state"] == "ok"
    [version] = json.loads(graft("versions", "surfaces", "--json"))
    assert version["is_default"]
    assert len(storage.list_uris("gs://graft/blobs/")) == 192
    assert not (tmp_path / "home" / "buckets").exists()
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in said
    objects = {uri: storage.read_bytes(uri) for uri in storage.list_uris("gs://graft/")}
    assert [uri for uri, data in objects.items() if SECRET.encode() in data] == []
