from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.folders import FeatureFolder
from pipeline.artifacts.pack import PackedShard
from pipeline.artifacts.training import FeatureWork
from pipeline.backbones.table import find_backbone
from pipeline.npz import read_npz, write_npz
from pipeline.storage import Storage
from pipeline.trainer.features import FeatureCache, TrainingFeatures, collect_features, read_first_pixels
from pipeline.trainer.pictures import fit_to_pack
from tests.fakes.rows import pack_index

PREFIX = "gs://graft/features/weights/spec"


class FakeNetwork:
    """Features that tell a picture: its mean level, twice. It can be killed after some pictures."""

    def __init__(self, lives: int = 1000) -> None:
        self.seen, self.lives = 0, lives

    def __call__(self, pixels: Any) -> Any:
        if self.seen + len(pixels) > self.lives:
            raise KeyboardInterrupt
        self.seen += len(pixels)
        return np.repeat(pixels.mean((1, 2, 3), dtype=np.float64)[:, None], 2, 1).astype(np.float32)


class Bucket:
    def __init__(self, root: Path) -> None:
        self.storage = Storage({"graft": root})
        self.shards: list[PackedShard] = []

    def shard(self, numbers: Sequence[int]) -> None:
        """Pack pictures whose every level is their number."""
        levels = np.array(numbers, np.uint8)
        features = np.repeat(levels, 2 * 2 * 3).reshape(-1, 2, 2, 3)
        ids = np.array([f"{number:064x}" for number in numbers], "S64")
        data = write_npz({"features": features, "labels": levels.astype(np.int64) % 2, "ids": ids})
        digest = hashlib.sha256(data).hexdigest()
        uri = f"gs://graft/packs/spec/{digest}.npz"
        self.storage.create_bytes(uri, data)
        self.shards.append(PackedShard(uri=uri, digest=digest, rows=len(numbers)))

    def collect(self, network: FakeNetwork) -> TrainingFeatures:
        cache = FeatureCache(FeatureFolder(self.storage, PREFIX), 2)
        return collect_features(self.shards, self.storage, cache=cache, network=network)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def test_each_picture_is_forwarded_once_ever(bucket: Bucket) -> None:
    bucket.shard(range(40))
    bucket.shard(range(40, 45))
    first, second = bucket.collect(FakeNetwork()), bucket.collect(FakeNetwork(lives=0))
    assert first.work == FeatureWork(forwarded=45, cached=0)
    assert second.work == FeatureWork(forwarded=0, cached=45)
    assert np.array_equal(first.features, second.features)
    assert first.features[:, 0].tolist() == list(range(45))
    assert first.labels.tolist() == [number % 2 for number in range(45)]


def test_new_pictures_alone_are_forwarded(bucket: Bucket) -> None:
    bucket.shard(range(20))
    bucket.collect(FakeNetwork())
    bucket.shard(range(20, 30))
    grown = bucket.collect(FakeNetwork(lives=10))
    assert grown.work == FeatureWork(forwarded=10, cached=20)


def test_a_killed_job_repeats_no_finished_shard(bucket: Bucket) -> None:
    for start in (0, 20, 40):
        bucket.shard(range(start, start + 20))
    with pytest.raises(KeyboardInterrupt):
        bucket.collect(FakeNetwork(lives=50))
    again = bucket.collect(FakeNetwork())
    assert again.work == FeatureWork(forwarded=20, cached=40)
    assert again.features[:, 0].tolist() == list(range(60))


def test_pictures_packed_otherwise_are_found_by_their_ids(bucket: Bucket) -> None:
    bucket.shard(range(30))
    bucket.shard(range(30, 60))
    bucket.collect(FakeNetwork())
    bucket.shards.clear()
    bucket.shard([59, 3, 70, 31])
    mixed = bucket.collect(FakeNetwork())
    assert mixed.work == FeatureWork(forwarded=1, cached=3)
    assert mixed.features[:, 0].tolist() == [59, 3, 70, 31]
    assert bucket.collect(FakeNetwork(lives=0)).work.cached == 4


def test_only_training_shards_and_features_are_opened(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.shard(range(5))
    opened = []
    for name in ("read_bytes", "local_path"):
        original = getattr(Storage, name)
        monkeypatch.setattr(Storage, name, lambda self, uri, do=original: opened.append(uri) or do(self, uri))
    for _ in range(2):
        bucket.collect(FakeNetwork())
    assert opened
    assert all(uri.startswith(("gs://graft/packs/spec/", PREFIX)) for uri in opened)


def test_another_networks_features_are_not_used(bucket: Bucket) -> None:
    bucket.shard(range(5))
    bucket.collect(FakeNetwork())
    other = FeatureCache(FeatureFolder(bucket.storage, "gs://graft/features/other/spec"), 2)
    assert (
        collect_features(bucket.shards, bucket.storage, cache=other, network=FakeNetwork()).work.forwarded
        == 5
    )


def test_a_cache_file_of_other_pictures_is_not_trusted(bucket: Bucket) -> None:
    bucket.shard(range(5))
    cache = FeatureCache(FeatureFolder(bucket.storage, PREFIX), 2)
    wrong = np.array([f"{number:064x}" for number in range(90, 95)], "S64")
    cache.write(bucket.shards[0].digest, wrong, np.zeros((5, 2), np.float32))
    assert bucket.collect(FakeNetwork()).features[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("place", [30, 400, -200, -30])
def test_a_damaged_cache_file_is_refused_by_name_and_made_again(
    bucket: Bucket, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.shard(range(5))
    bucket.shard(range(5, 9))
    bucket.collect(FakeNetwork())
    uri = FeatureFolder(bucket.storage, PREFIX).shard(bucket.shards[0].digest)
    path = bucket.storage.local_path(uri)
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    again = bucket.collect(FakeNetwork())
    assert again.features[:, 0].tolist() == list(range(9))
    assert again.work == FeatureWork(forwarded=5, cached=4)
    assert f"{uri} is refused" in caplog.text
    later = bucket.collect(FakeNetwork(lives=0))
    assert later.features[:, 0].tolist() == list(range(9))
    assert later.uris == again.uris
    assert later.uris[0] != uri
    assert read_npz(bucket.storage.local_path(later.uris[0]))["features"][:, 0].tolist() == list(range(5))
    assert path.read_bytes() == bytes(data)  # jobs replace nothing


def test_first_pixels_come_in_the_order_of_the_features(bucket: Bucket) -> None:
    bucket.shard([9, 8, 7])
    assert read_first_pixels(bucket.shards, bucket.storage, 2)[:, 0, 0, 0].tolist() == [9, 8]


@pytest.mark.parametrize("bits", [16, 12])
def test_a_backbone_is_fed_the_pixels_of_the_pack(bits: int) -> None:
    spec = replace(find_backbone("efficientnet_lite0").spec, bits=bits)
    assert fit_to_pack(find_backbone("efficientnet_lite0"), pack_index(spec=spec.to_dict())).spec == spec
