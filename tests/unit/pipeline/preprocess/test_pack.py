from __future__ import annotations

import base64
import json
import tracemalloc
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from pipeline.artifacts.pack import read_pack_index
from pipeline.artifacts.steps import PackResult
from pipeline.npz import read_npz
from pipeline.pixels.host import decode_picture, decode_resized, resize_picture
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess import decoding, pack
from pipeline.preprocess.pack import PackPlan, pack_shard, plan_pack
from pipeline.storage import Storage
from tests.fakes.pictures import WORKSPACE, fetch_and_clean, folder_classifier, folder_of, storage_in
from tests.fakes.rows import manifest_rows, workspace_of

SPEC = PixelSpec(height=8, width=6, offset=127, divisor=128)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_SHARD_ROWS", 8)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "toys", {"ant": 12, "cat": 12})


def plan(toys: Path, storage: Storage, spec: PixelSpec = SPEC) -> PackPlan:
    version = fetch_and_clean(folder_classifier(toys), storage)[1].version
    return plan_pack(workspace_of(storage), "toys", version, spec)


def pack_all(made: PackPlan, storage: Storage) -> list[int]:
    return [pack_shard(workspace_of(storage), made.index_uri, item).decoded for item in made.items]


def packed_ids(made: PackPlan, storage: Storage) -> list[str]:
    shards = [read_npz(storage.local_path(entry.uri)) for entry in made.index.shards]
    return [id.decode() for shard in shards for id in shard["ids"]]


class TestShards:
    def test_hold_the_training_pixels_resized_with_label_and_id(self, toys: Path, storage: Storage) -> None:
        made = plan(toys, storage)
        pack_all(made, storage)
        rows = {row.id: row for row in manifest_rows(storage, made.index.version)}
        seen = []
        for entry in made.index.shards:
            shard = read_npz(storage.local_path(entry.uri))
            assert shard["features"].shape == (entry.rows, 8, 6, 3)
            assert (shard["features"].dtype, shard["labels"].dtype) == (np.uint8, np.int64)
            assert shard["ids"].dtype == np.dtype("S64")
            for pixels, label, id in zip(shard["features"], shard["labels"], shard["ids"], strict=True):
                row = rows[id.decode()]
                blob = storage.read_bytes(f"{WORKSPACE}/blobs/{row.blob}")
                np.testing.assert_array_equal(pixels, resize_picture(decode_picture(blob), SPEC))
                assert ["ant", "cat"][label] == row.label
                seen.append(row)
        assert {row.id for row in seen} == {row.id for row in rows.values() if row.split == "train"}
        assert len(seen) == len({row.id for row in seen})

    def test_index_names_spec_classes_and_objects(self, toys: Path, storage: Storage) -> None:
        made = plan(toys, storage)
        assert made.index_uri == f"{WORKSPACE}/packs/{made.index.version}/{SPEC.digest}.json"
        assert read_pack_index(storage, made.index_uri) == made.index
        assert PixelSpec.from_dict(dict(made.index.spec)) == SPEC
        entry = made.index.shards[0]
        assert entry.uri == f"{WORKSPACE}/packs/{SPEC.digest}/{entry.digest}.npz"
        assert made.items == [*range(len(made.index.shards)), "test"]

    def test_same_bytes_wherever_they_are_packed(self, toys: Path, tmp_path: Path) -> None:
        made = []
        for name in ("one", "other"):
            storage = storage_in(tmp_path / name)
            done = plan(toys, storage)
            pack_all(done, storage)
            made.append([storage.read_bytes(entry.uri) for entry in done.index.shards])
        assert made[0] == made[1]


class TestAgain:
    def test_nothing_is_decoded_twice(self, toys: Path, storage: Storage) -> None:
        first = plan(toys, storage)
        assert sum(pack_all(first, storage)) == sum(entry.rows for entry in first.index.shards)
        second = plan(toys, storage)
        assert second.items == ["test"]
        assert second.index == first.index
        nothing = PackResult(decoded=0, written=0)
        assert pack_shard(workspace_of(storage), second.index_uri, 0) == nothing
        assert pack_shard(workspace_of(storage), second.index_uri, "test") == nothing

    def test_new_pictures_go_to_new_shards(self, toys: Path, storage: Storage) -> None:
        first = plan(toys, storage)
        pack_all(first, storage)
        folder_of(toys, {"ant": 5, "cat": 5}, first=12)
        second = plan(toys, storage)
        assert second.index.shards[: len(first.index.shards)] == first.index.shards
        growth = sum(e.rows for e in second.index.shards) - sum(e.rows for e in first.index.shards)
        assert sum(pack_all(second, storage)) == growth > 0

    def test_a_shard_with_a_picture_that_left_is_packed_anew(self, toys: Path, storage: Storage) -> None:
        first = plan(toys, storage)
        pack_all(first, storage)
        rows = manifest_rows(storage, first.index.version)
        gone = next(row for row in rows if row.split == "train")
        Path(gone.source_url.removeprefix("file://")).unlink()
        second = plan(toys, storage)
        pack_all(second, storage)
        assert gone.id not in packed_ids(second, storage)
        assert sorted([*packed_ids(second, storage), str(gone.id)]) == sorted(packed_ids(first, storage))
        assert second.index.shards[0] == first.index.shards[1]

    def test_a_picture_that_returns_is_in_one_shard_only(self, toys: Path, storage: Storage) -> None:
        first = plan(toys, storage)
        rows = manifest_rows(storage, first.index.version)
        path = Path(next(row.source_url for row in rows if row.split == "train").removeprefix("file://"))
        content = path.read_bytes()
        path.unlink()
        pack_all(plan(toys, storage), storage)
        path.write_bytes(content)
        folder_of(toys, {"ant": 1}, first=12)
        third = plan(toys, storage)
        pack_all(third, storage)
        ids = packed_ids(third, storage)
        rows = manifest_rows(storage, third.index.version)
        assert sorted(ids) == sorted(row.id or "" for row in rows if row.split == "train")

    def test_a_label_that_changed_is_packed_anew(self, toys: Path, storage: Storage) -> None:
        pack_all(plan(toys, storage), storage)
        (toys / "ant").rename(toys / "dog")
        renamed = plan(toys, storage)
        pack_all(renamed, storage)
        labels = np.concatenate(
            [read_npz(storage.local_path(entry.uri))["labels"] for entry in renamed.index.shards]
        )
        rows = {row.id: row for row in manifest_rows(storage, renamed.index.version)}
        assert renamed.index.classes == ["cat", "dog"]
        assert [renamed.index.classes[label] for label in labels] == [
            rows[id].label for id in packed_ids(renamed, storage)
        ]

    def test_another_size_shares_no_shard(self, toys: Path, storage: Storage) -> None:
        small, large = (
            plan(toys, storage),
            plan(toys, storage, PixelSpec(height=9, width=6, offset=0, divisor=1)),
        )
        uris = [{entry.uri for entry in made.index.shards} for made in (small, large)]
        assert not uris[0] & uris[1]

    def test_a_killed_shard_leaves_nothing_and_is_made_the_next_time(
        self, toys: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = plan(toys, storage)

        def die_half_way(file: BinaryIO, arrays: object) -> None:
            file.write(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(pack, "save_npz", die_half_way)
        with pytest.raises(KeyboardInterrupt):
            pack_shard(workspace_of(storage), made.index_uri, 0)
        monkeypatch.undo()
        rows = storage.local_path(made.index.shards[0].uri.replace(".npz", ".jsonl"))
        assert {path.suffix for path in rows.parent.iterdir()} == {".jsonl"}
        assert pack_shard(workspace_of(storage), made.index_uri, 0).written


class TestTestPictures:
    def test_keep_their_original_bytes_under_their_id(self, toys: Path, storage: Storage) -> None:
        made = plan(toys, storage)
        pack_all(made, storage)
        rows = [r for r in manifest_rows(storage, made.index.version) if r.split == "test"]
        lines = [
            json.loads(line)
            for entry in made.index.tests
            for line in storage.read_bytes(entry.uri).splitlines()
        ]
        assert [line["key"] for line in lines] == [row.id for row in rows]
        for line, row in zip(lines, rows, strict=True):
            original = Path(row.source_url.removeprefix("file://")).read_bytes()
            assert base64.b64decode(line["inputs"]["b64"], validate=True) == original

    def test_are_never_decoded_and_never_in_a_shard(
        self, toys: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = plan(toys, storage)
        rows = manifest_rows(storage, made.index.version)
        tested = {row.id for row in rows if row.split == "test"}
        blobs = {storage.read_bytes(f"{WORKSPACE}/blobs/{r.blob}") for r in rows if r.split == "test"}
        opened = []
        monkeypatch.setattr(
            decoding, "decode_resized", lambda data, spec: opened.append(data) or decode_resized(data, spec)
        )
        pack_all(made, storage)
        assert tested
        assert not tested & set(packed_ids(made, storage))
        assert opened
        assert not blobs & set(opened)

    def test_more_than_a_file_holds_go_on_in_the_next(self, tmp_path: Path, storage: Storage) -> None:
        made = plan(folder_of(tmp_path / "many", {"ant": 50, "cat": 50}), storage)
        pack_all(made, storage)
        names = [entry.uri.rpartition("/")[2] for entry in made.index.tests]
        assert names[:2] == ["test-00000.jsonl", "test-00001.jsonl"]
        for entry in made.index.tests:
            assert len(storage.read_bytes(entry.uri).splitlines()) == entry.rows <= 8


def test_memory_is_that_of_one_shard_however_many_there_are(tmp_path: Path, storage: Storage) -> None:
    spec = PixelSpec(height=100, width=100, offset=0, divisor=1)
    made = plan(folder_of(tmp_path / "many", {"ant": 60, "cat": 60}), storage, spec)
    one_shard = 8 * spec.height * spec.width * 3
    pack_shard(workspace_of(storage), made.index_uri, 0)
    tracemalloc.start()
    for item in made.items[1:]:
        pack_shard(workspace_of(storage), made.index_uri, item)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made.items) > 10
    assert peak < 4 * one_shard
