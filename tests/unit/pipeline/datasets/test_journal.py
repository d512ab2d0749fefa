from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.datasets import journal as module
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.journal import BucketJournal, JournalLine, open_journal
from pipeline.errors import StorageError
from pipeline.storage import S3Address, Storage
from tests.fakes.pictures import noise, png
from tests.fakes.rows import index_rows
from tests.fakes.s3 import FakeS3, running_s3, use_keys
from tests.fakes.site import Site, site_running

PICTURES, CONCURRENCY = 12, 2


class HostLostError(BaseException):
    """The host is gone."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site_running() as site:
        for number in range(PICTURES):
            site.add(f"/{number}.png", png(noise(number, 70)))
        monkeypatch.setenv("GRAFT_FETCH_ALLOW", site.host)
        yield site


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    use_keys(monkeypatch)
    monkeypatch.setattr(module, "LAST_SECONDS", 0.0)  # each line is written at once
    with running_s3() as store:
        yield store


@pytest.fixture
def classifier(site: Site, tmp_path: Path) -> Classifier:
    rows = [f"{site.url(f'/{number}.png')},c{number % 2}" for number in range(PICTURES)]
    (tmp_path / "list.csv").write_text("\n".join(["url,label", *rows, ""]))
    source = {"type": "url_list", "uri": str(tmp_path / "list.csv")}
    fetch = {"requests_per_second": 1000, "concurrency": CONCURRENCY}
    return Classifier.from_dict({"name": "pets", "dataset": {"source": source, "fetch": fetch}})


def host(store: FakeS3, cache: Path) -> Workspace:
    """A host with files of its own."""
    address = S3Address(bucket="graft", endpoint=store.url("").rstrip("/"), region="eu-1")
    return Workspace(Storage({"graft": address}, cache=cache), "gs://graft")


def journal_keys(store: FakeS3) -> list[str]:
    return [key for _, key in store.objects if "/journal/" in key]


def lose(workspace: Workspace, classifier: Classifier, *, after: int) -> list[str]:
    """Fetch on a host that is lost after some pictures; return the addresses that it had finished."""
    finished: list[str] = []
    write = BucketJournal.write

    def write_until_lost(self: BucketJournal, line: JournalLine) -> None:
        if len(finished) >= after:
            raise HostLostError
        finished.append(line.url)
        write(self, line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BucketJournal, "write", write_until_lost)
        patch.setattr(BucketJournal, "close", lambda self: None)
        with pytest.raises(HostLostError):
            fetch_pictures(workspace, classifier)
    return finished


def test_another_host_goes_on_where_the_lost_one_was(
    site: Site, store: FakeS3, classifier: Classifier, tmp_path: Path
) -> None:
    finished = lose(host(store, tmp_path / "lost"), classifier, after=5)
    assert len(finished) >= 5
    workspace = host(store, tmp_path / "other")
    result = fetch_pictures(workspace, classifier)
    paths = {f"/{number}.png" for number in range(PICTURES)}
    asked_twice = {path for path in paths if site.requests[path] > 1}
    assert asked_twice.isdisjoint(f"/{url.rpartition('/')[2]}" for url in finished)
    assert len(asked_twice) <= 2 * CONCURRENCY
    rows = index_rows(workspace.storage, result.index)
    assert (len(rows), len({row.position for row in rows})) == (PICTURES, PICTURES)
    blobs = [key for _, key in store.objects if key.startswith("blobs/")]
    assert sorted(blobs) == sorted(f"blobs/{row.blob}" for row in rows)
    assert result.requests == PICTURES
    assert journal_keys(store) == []


def test_what_a_host_writes_that_comes_back_is_not_taken_for_a_later_run(
    store: FakeS3, classifier: Classifier, tmp_path: Path
) -> None:
    cut_off = open_journal(host(store, tmp_path / "cut_off").dataset("pets"), 0, 1)
    workspace = host(store, tmp_path / "other")
    fetch_pictures(workspace, classifier)
    cut_off.write(JournalLine(url="https://example.org/old.png", blob="0" * 64))
    cut_off.close()
    assert len(journal_keys(store)) == 1
    later = open_journal(workspace.dataset("pets"), 0, 1)
    assert later.lines == {}
    later.drop()
    assert journal_keys(store) == []


def test_lines_wait_a_little_so_that_objects_are_few(store: FakeS3, tmp_path: Path) -> None:
    storage = host(store, tmp_path).storage
    folder, lines = "gs://graft/journal", [JournalLine(url=f"u{n}", blob="b") for n in range(1000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LAST_SECONDS", 3600.0)
        journal = BucketJournal(storage, folder, state="first", flush_seconds=3600.0)
        for line in lines:
            journal.write(line)
        assert store.objects == {}
        journal.close()
    assert len(store.objects) == 1
    assert BucketJournal(storage, folder, state="first").lines == {line.url: line for line in lines}


def test_a_bucket_that_is_away_at_the_end_hides_no_other_error(
    store: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LAST_SECONDS", 3600.0)
    journal = BucketJournal(
        host(store, tmp_path).storage, "gs://graft/journal", state="first", flush_seconds=3600.0
    )
    journal.write(JournalLine(url="u", blob="b"))

    def refuse(self: Storage, uri: str, data: bytes) -> None:
        raise StorageError("The bucket is away.", uri=uri)

    monkeypatch.setattr(Storage, "write_bytes", refuse)
    journal.close()
    assert "The last 1 downloads will be made again: The bucket is away." in caplog.text
