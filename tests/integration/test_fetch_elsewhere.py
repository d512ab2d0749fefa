"""A chunk whose host is lost is fetched again on another one, which has nothing of the first one's files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets.fetch import fetch_pictures
from pipeline.preprocess.clean import build_dataset_version
from pipeline.storage import S3Address, Storage
from tests.fakes.pictures import noise, png
from tests.fakes.s3 import FakeS3, running_s3, use_keys
from tests.fakes.site import Site, site_running

ROOT = Path(__file__).resolve().parents[2]
PICTURES, CHUNKS = 48, 2
LOST = """
import sys
from pathlib import Path
from tests.integration.test_fetch_elsewhere import fetch_chunk
fetch_chunk(sys.argv[1], sys.argv[2], Path(sys.argv[3]), 1)
"""


def classifier_of(list_file: str) -> Classifier:
    source = {"type": "url_list", "uri": list_file}
    fetch = {"chunks": CHUNKS, "requests_per_second": 20, "concurrency": 2}
    return Classifier.from_dict({"name": "shared", "dataset": {"source": source, "fetch": fetch}})


def workspace_of(endpoint: str, cache: Path) -> Workspace:
    address = S3Address(bucket="graft", endpoint=endpoint, region="eu-1")
    return Workspace(Storage({"graft": address}, cache=cache), "gs://graft")


def fetch_chunk(endpoint: str, list_file: str, cache: Path, chunk: int) -> str:
    """Fetch a chunk as a host does whose files are in a directory; return its index."""
    result = fetch_pictures(
        workspace_of(endpoint, cache), classifier_of(list_file), chunk=chunk, num_chunks=CHUNKS
    )
    assert result.index is not None
    return result.index


def build(store: FakeS3, list_file: str, cache: Path, fetched: list[str]) -> dict[str, bytes]:
    """Make the dataset version; return all objects without the moment of its making."""
    workspace = workspace_of(store.url("").rstrip("/"), cache)
    build_dataset_version(workspace, classifier_of(list_file), fetched=fetched, run_id="run")
    objects = {key: stored.data for (_, key), stored in store.objects.items()}
    (info,) = [key for key in objects if key.endswith("/dataset.json")]
    moment = workspace.storage.read_json(f"gs://graft/{info}")["created_at"].encode()
    return {key: data.replace(moment, b"") for key, data in objects.items()}


@pytest.mark.soak
def test_a_lost_host_changes_no_byte_of_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_keys(monkeypatch)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with site_running() as site, running_s3() as calm, running_s3() as disturbed:
        for number in range(PICTURES):
            site.add(f"/{number}.png", png(noise(number, 70)))
        monkeypatch.setenv("GRAFT_FETCH_ALLOW", site.host)
        list_file = tmp_path / "list.csv"
        rows = [f"{site.url(f'/{number}.png')},c{number // 4 % 2}" for number in range(PICTURES)]
        list_file.write_text("\n".join(["url,label", *rows, ""]))
        urls = [store.url("").rstrip("/") for store in (calm, disturbed)]

        kept = [fetch_chunk(urls[0], str(list_file), tmp_path / f"calm{n}", n) for n in range(CHUNKS)]
        expected = build(calm, str(list_file), tmp_path / "calm0", kept)
        lose_a_host(site, urls[1], list_file, tmp_path / "lost")
        lost = {key for _, key in disturbed.objects}
        assert any(key.startswith("blobs/") for key in lost)
        again = [fetch_chunk(urls[1], str(list_file), tmp_path / "other", n) for n in range(CHUNKS)]
        assert build(disturbed, str(list_file), tmp_path / "other", again) == expected


def lose_a_host(site: Site, endpoint: str, list_file: Path, cache: Path) -> None:
    """Kill the process that fetches a chunk when it has a part of it."""
    before = site.requests.total()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOST, endpoint, str(list_file), str(cache)]
    with subprocess.Popen(command, env=environ) as process:
        deadline = time.monotonic() + 120
        while site.requests.total() < before + PICTURES // CHUNKS // 2 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert site.requests.total() < before + PICTURES // CHUNKS
