from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts.fetch_index import FetchedRow, RowSpool
from pipeline.artifacts.provenance import Provenance
from pipeline.artifacts.steps import FetchResult
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.folder import FolderSource
from pipeline.errors import EmptyDataset
from pipeline.storage import Storage
from tests.fakes.pictures import (
    WORKSPACE,
    PictureServer,
    classifier_of,
    folder_classifier,
    folder_of,
    noise,
    serving,
    storage_in,
)
from tests.fakes.rows import index_rows, workspace_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 3, "cat": 3})


def fetch_folder(toys: Path, storage: Storage, chunk: int = 0, num_chunks: int = 1) -> FetchResult:
    return fetch_pictures(workspace_of(storage), folder_classifier(toys), chunk=chunk, num_chunks=num_chunks)


def counts(result: FetchResult) -> tuple[int, int, int]:
    return result.found, result.downloaded, result.reused


class TestFolder:
    def test_first_run_reads_every_picture_into_a_blob(self, toys: Path, storage: Storage) -> None:
        result = fetch_folder(toys, storage)
        assert counts(result) == (6, 6, 0)
        rows = index_rows(storage, result.index)
        assert storage.read_bytes(f"{WORKSPACE}/blobs/{rows[0].blob}") == (toys / "ant/0000.png").read_bytes()
        assert len(storage.list_uris(f"{WORKSPACE}/blobs/")) == 6

    def test_second_run_opens_no_file(
        self, toys: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = fetch_folder(toys, storage)
        before = storage.read_bytes(first.index)
        monkeypatch.setattr(FolderSource, "_read", lambda source, path: pytest.fail(f"{path} was read"))
        assert counts(fetch_folder(toys, storage)) == (6, 0, 6)
        assert storage.read_bytes(first.index) == before

    def test_ten_more_pictures_are_ten_reads(self, toys: Path, storage: Storage) -> None:
        fetch_folder(toys, storage)
        folder_of(toys, {"ant": 10}, first=3)
        assert counts(fetch_folder(toys, storage)) == (16, 10, 6)

    def test_a_changed_picture_is_read_again(self, toys: Path, storage: Storage) -> None:
        fetch_folder(toys, storage)
        (toys / "ant" / "0000.png").write_bytes(b"something else")
        assert counts(fetch_folder(toys, storage)) == (6, 1, 5)

    def test_a_lost_blob_is_read_again(self, toys: Path, storage: Storage) -> None:
        fetch_folder(toys, storage)
        storage.delete(storage.list_uris(f"{WORKSPACE}/blobs/")[0])
        assert counts(fetch_folder(toys, storage)) == (6, 1, 5)

    def test_a_killed_fetch_leaves_the_last_index_whole(
        self, toys: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = fetch_folder(toys, storage)
        before = storage.read_bytes(first.index)
        folder_of(toys, {"ant": 4}, first=3)
        create, seen = storage.create_bytes, []

        def die_at_the_third(uri: str, data: bytes) -> bool:
            seen.append(uri)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return create(uri, data)

        monkeypatch.setattr(storage, "create_bytes", die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            fetch_folder(toys, storage)
        monkeypatch.undo()
        assert storage.read_bytes(first.index) == before
        assert counts(fetch_folder(toys, storage)) == (10, 4, 6)

    def test_a_refused_source_writes_nothing(self, toys: Path, storage: Storage) -> None:
        (toys / "bee").mkdir()
        with pytest.raises(EmptyDataset):
            fetch_folder(toys, storage)
        assert storage.list_uris(f"{WORKSPACE}/") == []


class TestChunks:
    def test_together_hold_every_picture_once(self, toys: Path, storage: Storage) -> None:
        results = [fetch_folder(toys, storage, chunk, 2) for chunk in range(2)]
        rows = index_rows(storage, *(result.index for result in results))
        assert [row.position for row in rows] == [0, 1, 2, 3, 4, 5]
        again = [fetch_folder(toys, storage, chunk, 2) for chunk in range(2)]
        assert [counts(result) for result in again] == [(3, 0, 3), (3, 0, 3)]

    def test_going_back_to_fewer_drops_the_others_and_reads_nothing(
        self, toys: Path, storage: Storage
    ) -> None:
        for chunk in range(3):
            fetch_folder(toys, storage, chunk, 3)
        result = fetch_folder(toys, storage)
        assert counts(result) == (6, 0, 6)
        assert storage.list_uris(f"{WORKSPACE}/datasets/toys/fetched/") == [result.index]


class TestSample:
    def test_three_photographs_give_192_pictures_once(self, storage: Storage) -> None:
        classifier = classifier_of({"type": "sample"})
        first = fetch_pictures(workspace_of(storage), classifier)
        second = fetch_pictures(workspace_of(storage), classifier)
        assert (counts(first), counts(second)) == ((192, 3, 0), (192, 0, 192))


class TestArchiveOverHttp:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[PictureServer]:
        self.write_archive(tmp_path, 6)
        with serving(tmp_path) as running:
            yield running

    @staticmethod
    def write_archive(directory: Path, num_pictures: int) -> None:
        features = np.stack([noise(seed, 4) for seed in range(num_pictures)])
        np.savez(directory / "toys.npz", features=features, labels=np.arange(num_pictures) % 2)

    def fetch(
        self, server: PictureServer, storage: Storage, classes: tuple[str, ...] = ("a", "b")
    ) -> FetchResult:
        source = {"type": "npz", "uri": server.url("toys.npz"), "classes": list(classes)}
        return fetch_pictures(workspace_of(storage), classifier_of(source))

    def test_get_requests_equal_what_is_counted(
        self, server: PictureServer, storage: Storage, tmp_path: Path
    ) -> None:
        assert counts(self.fetch(server, storage)) == (6, 1, 0)
        assert server.requests["GET"] == 1
        assert counts(self.fetch(server, storage)) == (6, 0, 6)
        assert server.requests["GET"] == 1
        self.write_archive(tmp_path, 16)
        assert counts(self.fetch(server, storage)) == (16, 1, 0)
        assert server.requests["GET"] == 2
        assert len(storage.list_uris(f"{WORKSPACE}/blobs/")) == 16

    def test_same_bytes_under_a_new_time_encode_nothing_again(
        self, server: PictureServer, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fetch(server, storage)
        server.etag = '"new"'
        monkeypatch.setattr(
            "pipeline.datasets.sources.npz_archive._encode_png", lambda pixels: pytest.fail("encoded")
        )
        assert counts(self.fetch(server, storage)) == (6, 1, 6)

    def test_a_lost_blob_fetches_the_archive_again(self, server: PictureServer, storage: Storage) -> None:
        self.fetch(server, storage)
        storage.delete(storage.list_uris(f"{WORKSPACE}/blobs/")[0])
        assert counts(self.fetch(server, storage)) == (6, 1, 5)
        assert len(storage.list_uris(f"{WORKSPACE}/blobs/")) == 6

    def test_other_class_names_need_no_transfer(self, server: PictureServer, storage: Storage) -> None:
        self.fetch(server, storage)
        result = self.fetch(server, storage, classes=("x", "y"))
        assert counts(result) == (6, 0, 6)
        assert {row.label for row in index_rows(storage, result.index)} == {"x", "y"}

    def test_a_local_archive_is_read_once_too(self, storage: Storage, tmp_path: Path) -> None:
        self.write_archive(tmp_path, 4)
        source = {"type": "npz", "uri": str(tmp_path / "toys.npz"), "classes": ["a", "b"]}
        runs = [fetch_pictures(workspace_of(storage), classifier_of(source)) for _ in range(2)]
        assert [counts(run) for run in runs] == [(4, 1, 0), (4, 0, 4)]

    def test_password_of_the_address_stays_out_of_the_index(
        self, server: PictureServer, storage: Storage
    ) -> None:
        uri = server.url("toys.npz").replace("://", "://me:secret@")
        source = {"type": "npz", "uri": uri, "classes": ["a", "b"]}
        result = fetch_pictures(workspace_of(storage), classifier_of(source))
        rows = index_rows(storage, result.index)
        assert rows[0].source_url == server.url("toys.npz#0")
        assert b"secret" not in storage.read_bytes(result.index)


def test_rows_that_come_in_any_order_are_written_in_source_order() -> None:
    rows = [
        FetchedRow(
            position=position,
            label="é" * position,
            provenance=Provenance(source_url="x"),
            validator="",
            blob="",
            retrieved_at="",
        )
        for position in range(50)
    ]
    spool = RowSpool()
    for row in (*rows[::2], *rows[1::2]):
        spool.add(row)
    assert len(spool) == 50
    assert [FetchedRow.from_dict(json.loads(line)) for line in spool.lines()] == rows
    spool.close()
