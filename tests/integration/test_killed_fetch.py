"""`kill -9` at any moment costs nothing that was finished, and changes nothing in the result."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.preprocess.clean import build_dataset_version
from pipeline.storage import Storage
from tests.fakes.pictures import WORKSPACE, classifier_of, noise, png
from tests.fakes.rows import index_rows, workspace_of
from tests.fakes.site import Site, site_running

ROOT = Path(__file__).resolve().parents[2]
IS_SOAK = bool(os.environ.get("GRAFT_SOAK"))
PICTURES = 500 if IS_SOAK else 60
KILLS = 10 if IS_SOAK else 2
CONCURRENCY = 8


@pytest.fixture
def site() -> Iterator[Site]:
    with site_running() as running:
        running.latency = 0.03
        for number in range(PICTURES):
            # Every tenth is large enough to be downloaded by way of a part file.
            size = 400 if number % 10 == 0 else 70
            running.add(f"/{number}.png", png(noise(number, size)))
        yield running


def start(site: Site, list_file: Path, bucket: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "GRAFT_FETCH_ALLOW": site.host,
        "PYTHONPATH": str(ROOT),
        "SOURCE_DATE_EPOCH": "1700000000",
    }
    command = [sys.executable, str(ROOT / "tests/integration/killed_fetch.py"), str(list_file), str(bucket)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def contents(bucket: Path) -> dict[str, str]:
    return {
        path.relative_to(bucket).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(bucket.rglob("*"))
        if path.is_file() and not path.name.startswith(".")  # what a killed write left is no object
    }


def finished(bucket: Path) -> set[str]:
    lines = "".join(path.read_text() for path in bucket.rglob("journal/*.jsonl"))
    return {f"/{line.split('.png')[0].rpartition('/')[2]}.png" for line in lines.splitlines()}


def wait_for_pictures(bucket: Path, wanted: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(finished(bucket)) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def test_killed_downloads_end_as_an_undisturbed_one_does(site: Site, tmp_path: Path) -> None:
    list_file = tmp_path / "list.csv"
    lines = [f"{site.url(f'/{number}.png')},{'odd' if number % 2 else 'even'}" for number in range(PICTURES)]
    list_file.write_text("url,label\n" + "\n".join(lines) + "\n")
    finish(start(site, list_file, tmp_path / "calm"))
    assert site.requests.total() == PICTURES
    bodies_once = site.bodies.total()

    site.requests.clear()
    site.bodies.clear()
    bucket, chance = tmp_path / "killed", random.Random(7)
    counts: dict[str, int] = {}
    for number in range(KILLS):
        process = start(site, list_file, bucket)
        share = PICTURES * (number + chance.random()) / (KILLS + 1)
        wait_for_pictures(bucket, max(1, int(share)), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        counts |= {path: site.requests[path] for path in finished(bucket)}
    finish(start(site, list_file, bucket))

    assert {path: site.requests[path] for path in counts} == counts, "a finished picture was asked for again"
    assert contents(bucket) == contents(tmp_path / "calm")
    # What was under way at a kill, and nothing else, was asked for twice.
    assert site.requests.total() - PICTURES <= KILLS * CONCURRENCY
    assert site.bodies.total() - bodies_once <= KILLS * CONCURRENCY
    versions = {build(tmp_path / name, list_file) for name in ("calm", "killed")}
    assert len(versions) == 1


def build(bucket: Path, list_file: Path) -> str:
    storage = Storage({"graft": bucket})
    fetched = storage.list_uris(f"{WORKSPACE}/datasets/killed/fetched/")
    assert len(index_rows(storage, *fetched)) == PICTURES
    classifier = classifier_of({"type": "url_list", "uri": str(list_file)}).model_copy(
        update={"name": "killed"}
    )
    return build_dataset_version(workspace_of(storage), classifier, fetched=fetched, run_id="run").version


def test_a_second_run_on_an_unchanged_site_transfers_no_body(site: Site, tmp_path: Path) -> None:
    list_file = tmp_path / "list.csv"
    urls = [site.url(f"/{number}.png") for number in range(20)]
    list_file.write_text("url,label\n" + "\n".join(f"{url},{url[-5]}" for url in urls) + "\n")
    for _ in range(2):
        finish(start(site, list_file, tmp_path / "bucket"))
    assert site.requests.total() == 40
    assert site.bodies.total() == 20
