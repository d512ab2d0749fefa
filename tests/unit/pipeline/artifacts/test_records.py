"""Records of the datasets: what earlier releases wrote is read, what later ones write is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.artifacts.dataset import DatasetInfo, DataVerdict, LatestVersion, read_latest, write_latest
from pipeline.artifacts.fetch_index import FetchedRow, FetchHead, FetchIndex, RowSpool, write_index
from pipeline.artifacts.fingerprint import ImageFingerprint
from pipeline.artifacts.pack import PackedShard, PackedTests, PackIndex
from pipeline.artifacts.provenance import Provenance
from pipeline.artifacts.split_registry import SplitAssignment, SplitRegistry
from pipeline.errors import FormatTooNew, RecordInvalid
from tests.fakes.pictures import storage_in
from tests.fakes.rows import dataset_folder

INFO = {
    "dataset": "toys", "version": "d_1", "classes": ["cat", "ant"], "pictures": {"ant": 3, "cat": 4},
    "train": {"ant": 2, "cat": 3}, "test": {"ant": 1, "cat": 1}, "rejected": {"truncated": 1},
    "source": {"type": "folder", "uri": "/x"}, "split": {"method": "hash", "test_fraction": 0.2, "seed": 0},
    "run_id": "r", "created_at": "2026-01-01T00:00:00+00:00", "warnings": ["w"], "found": 8, "licenses": {},
    "mix": {}, "requests": 0, "previous": None, "expect": {},
}  # fmt: skip
INDEX = {
    "dataset": "toys", "version": "d_1", "spec": {"height": 1}, "classes": ["ant", "cat"],
    "shards": [{"uri": "gs://b/s.npz", "digest": "s", "rows": 2}],
    "tests": [{"uri": "gs://b/t.jsonl", "rows": 1}], "groups": "gs://b/groups.json",
}  # fmt: skip


class TestDatasetInfo:
    def test_of_an_earlier_release_is_read_in_the_order_of_the_classes(self) -> None:
        info = DatasetInfo.from_dict(INFO)
        assert list(info.pictures.items()) == [("cat", 4), ("ant", 3)]
        assert info.expect == DataVerdict()
        assert DatasetInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info

    def test_of_a_later_release_is_refused_by_name(self) -> None:
        with pytest.raises(FormatTooNew, match="DatasetInfo has the format 2"):
            DatasetInfo.from_dict({**INFO, "format": 2})

    def test_with_a_field_missing_or_unknown_is_refused(self) -> None:
        with pytest.raises(RecordInvalid, match="DatasetInfo cannot be read: .*'run_id'"):
            DatasetInfo.from_dict({name: value for name, value in INFO.items() if name != "run_id"})
        with pytest.raises(RecordInvalid, match="'mood'"):
            DatasetInfo.from_dict({**INFO, "mood": "good"})


def test_a_version_that_is_held_back_stands_beside_the_latest(tmp_path: Path) -> None:
    folder = dataset_folder(storage_in(tmp_path))
    assert read_latest(folder) == LatestVersion()
    write_latest(folder, "d_1")
    write_latest(folder, "d_2", held=True)
    assert read_latest(folder).versions == ["d_1", "d_2"]
    write_latest(folder, "d_3")
    assert read_latest(folder) == LatestVersion(version="d_3")


class TestPackIndex:
    def test_of_an_earlier_release_is_read(self) -> None:
        index = PackIndex.from_dict(INDEX)
        assert index.shards == [PackedShard(uri="gs://b/s.npz", digest="s", rows=2)]
        assert index.tests == [PackedTests(uri="gs://b/t.jsonl", rows=1)]
        assert PackIndex.from_dict(json.loads(json.dumps(index.to_dict()))) == index

    def test_without_groups_is_of_an_early_release(self) -> None:
        assert PackIndex.from_dict({k: v for k, v in INDEX.items() if k != "groups"}).groups is None

    def test_of_a_later_release_is_refused_by_name(self) -> None:
        with pytest.raises(FormatTooNew, match="PackIndex"):
            PackIndex.from_dict({**INDEX, "format": 9})


class TestFetchIndex:
    def row(self, position: int) -> FetchedRow:
        return FetchedRow(
            position=position,
            label="ant",
            provenance=Provenance(source_url=f"u{position}", creator="A. Maker"),
            validator="v",
            blob="b",
            retrieved_at="t",
        )

    def test_of_several_chunks_gives_the_rows_in_source_order(self, tmp_path: Path) -> None:
        storage = storage_in(tmp_path)
        folder = dataset_folder(storage)
        for chunk in range(3):
            spool = RowSpool()
            for position in range(chunk, 10, 3):
                spool.add(self.row(position))
            head = FetchHead(notes={str(chunk): {"n": chunk}}, statements=[f"s{chunk}"], requests=chunk)
            write_index(storage, folder.fetch_index(chunk), head, spool)
            spool.close()
        index = FetchIndex.of_last_run(folder)
        assert list(index.rows()) == [self.row(position) for position in range(10)]
        assert index.head() == FetchHead(
            notes={str(n): {"n": n} for n in range(3)}, statements=["s0", "s1", "s2"], requests=3
        )

    def test_of_an_earlier_release_has_neither_format_nor_requests(self, tmp_path: Path) -> None:
        storage = storage_in(tmp_path)
        uri = dataset_folder(storage).fetch_index(0)
        storage.write_bytes(uri, b'{"notes": {}, "statements": []}\n')
        assert FetchIndex(storage, [uri]).head() == FetchHead(statements=[])
        storage.write_bytes(uri, b'{"format": 2, "notes": {}, "statements": []}\n')
        with pytest.raises(FormatTooNew, match="FetchHead"):
            FetchIndex(storage, [uri]).head()


class TestSplitRegistry:
    OLD = b'{"colour": "80", "group": "g", "id": "i", "phash": "ff", "sketch": null, "split": "test"}\n'

    def test_comes_back_byte_by_byte_from_an_earlier_release(self, tmp_path: Path) -> None:
        folder = dataset_folder(storage_in(tmp_path))
        folder.storage.write_bytes(folder.split_registry, self.OLD)
        rows = list(SplitRegistry(folder).rows())
        looks = ImageFingerprint(id="i", phash="ff", colour="80")
        assert rows == [SplitAssignment(fingerprint=looks, group="g", split="test")]
        SplitRegistry(folder).replace(rows)
        assert folder.storage.read_bytes(folder.split_registry) == self.OLD

    def test_is_empty_before_the_first_version(self, tmp_path: Path) -> None:
        assert list(SplitRegistry(dataset_folder(storage_in(tmp_path))).rows()) == []
