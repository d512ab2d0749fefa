"""What is not there is said before a run: folders, files, buckets and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from pipeline.config import Classifier
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.sources.presence import find_missing_sources
from pipeline.storage import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage({"graft": tmp_path / "bucket"})
    storage.write_bytes("gs://graft/toys/red/a.png", b"a")
    return storage


def find(storage: Storage, **dataset: object) -> list[str]:
    classifier = Classifier.from_dict({"name": "toys", "dataset": dataset})
    return list(map(str, find_missing_sources(storage, classifier, FetchPolicy())))


def source(uri: str, kind: str = "folder") -> dict[str, object]:
    return {"source": {"type": kind, "uri": uri}}


def test_what_is_there_is_no_problem(storage: Storage, tmp_path: Path) -> None:
    for uri in (str(tmp_path), tmp_path.as_uri(), "gs://graft/toys", "gs://graft/toys/"):
        assert find(storage, **source(uri)) == []
    assert find(storage, source={"type": "sample"}) == []


def test_a_missing_folder_names_the_nearest_one(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    [problem] = find(storage, **source(str(tmp_path / "picturs" / "red")))
    assert problem.startswith("`dataset.source.uri`: there is no ")
    assert problem.endswith(f"{tmp_path} has no `picturs` (did you mean `pictures`?)")


def test_each_of_several_sources_is_named_by_its_place(storage: Storage, tmp_path: Path) -> None:
    sources = [source(uri, "archive")["source"] for uri in (str(tmp_path), "/no/a.zip", "gs://graft/b.zip")]
    first, second = find(storage, sources=sources)
    assert first.startswith("`dataset.sources[1].uri`: there is no /no/a.zip")
    assert second == "`dataset.sources[2].uri`: there is no object gs://graft/b.zip. Correct bucket or path"


def test_a_prefix_without_an_object(storage: Storage) -> None:
    assert "no object below gs://graft/toy" in find(storage, **source("gs://graft/toy"))[0]


def test_a_pinned_dataset_needs_no_source(storage: Storage) -> None:
    assert find(storage, **source("/no/where"), as_of="d_0123") == []


class TestAddresses:
    def test_one_that_answers_404_or_has_no_host_is_not_there(
        self, storage: Storage, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/gone.zip").respond_with_data(b"", status=404)
        assert "Correct the address" in find(storage, **source(httpserver.url_for("/gone.zip"), "archive"))[0]
        [problem] = find(storage, **source("http://no-such-host.invalid/a.zip", "archive"))
        assert "no-such-host.invalid" in problem

    @pytest.mark.parametrize("status", [200, 429, 503])
    def test_one_that_may_answer_later_is_left_to_the_fetch(
        self, storage: Storage, httpserver: HTTPServer, status: int
    ) -> None:
        httpserver.expect_request("/a.zip").respond_with_data(b"", status=status)
        assert find(storage, **source(httpserver.url_for("/a.zip"), "archive")) == []
