"""Pooled features of the training pictures: each picture goes through the frozen network once, ever."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts.folders import FeatureFolder
from pipeline.artifacts.pack import PackedShard
from pipeline.artifacts.training import FeatureWork
from pipeline.errors import BadArchive
from pipeline.npz import ArraySpec, iterate_rows, read_npz, write_npz
from pipeline.storage import Storage
from pipeline.trainer.shared_cache import MAX_COPIES, share_bytes
from pipeline.types import BytesIds, Float32Features, Int64Labels, UInt8Images

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Network = Callable[[UInt8Images], Float32Features]
Alteration = Callable[[UInt8Images, BytesIds], UInt8Images]
BATCH_SIZE = 16  # larger batches are no faster on two cores and hold more activations
_LABELS = {
    "labels": ArraySpec(kinds="i", shape=(None,), itemsize=8),
    "ids": ArraySpec(kinds="S", shape=(None,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFeatures:
    """What the head is trained on.

    Args:
        features: Pooled features, one row a picture.
        labels: Class index of each.
        ids: Id of each.
        work: How many pictures went through the network in this job, and how many came from the cache.
        uris: The files of the cache that hold the features, one for each shard.
    """

    features: Float32Features
    labels: Int64Labels
    ids: tuple[str, ...]
    work: FeatureWork
    uris: tuple[str, ...]


class FeatureCache:
    """The features of one network on one pixel definition, kept in the bucket by picture id.

    A file holds the features of one pack shard and bears its name. A shard whose rows were packed otherwise
    before finds them in the files of other shards. A damaged file is refused, and its features are kept under
    the next number beside it.

    Args:
        folder: Where the cache is.
        feature_width: Length of a row.
    """

    def __init__(self, folder: FeatureFolder, feature_width: int) -> None:
        self._storage, self._folder, self.feature_width = folder.storage, folder, feature_width
        width = ArraySpec(kinds="f", shape=(None, feature_width), itemsize=4)
        self._schema = {"ids": _LABELS["ids"], "features": width}
        self._places: dict[bytes, tuple[str, int]] | None = None
        self._refused: set[str] = set()
        self.uris: dict[str, str] = {}  # where the features of a shard were found or kept, by its digest

    def uri(self, shard_digest: str) -> str:
        """Return where the features of a pack shard are."""
        return self._folder.shard(shard_digest)

    def read(self, shard_digest: str, ids: BytesIds) -> Float32Features | None:
        """Return a shard's features if the file of exactly these pictures is there and undamaged."""
        for uri in self._copies(shard_digest):
            if not self._storage.exists(uri):
                return None
            arrays = self._read(uri, self._schema)
            if arrays is not None:
                self.uris[shard_digest] = uri
                is_complete = len(arrays["ids"]) == len(arrays["features"])
                return arrays["features"] if is_complete and np.array_equal(arrays["ids"], ids) else None
        return None

    def _copies(self, shard_digest: str) -> list[str]:
        """Return where the file of a shard may be: a job replaces none, not even a damaged one."""
        return [self.uri(shard_digest), *(self.uri(f"{shard_digest}.{n}") for n in range(1, MAX_COPIES))]

    def _read(self, uri: str, schema: Mapping[str, ArraySpec]) -> dict[str, NDArray[Any]] | None:
        """Return the arrays of a file, None if their checksums are not those that it was written with."""
        try:
            return read_npz(self._storage.local_path(uri), schema, origin=uri)
        except BadArchive as error:
            if uri not in self._refused:
                logger.warning("%s is refused, and its pictures are forwarded again: %s", uri, error)
            self._refused.add(uri)
            return None

    def write(self, shard_digest: str, ids: BytesIds, features: Float32Features) -> None:
        """Keep a finished shard; a job killed later does not forward it again."""
        data = write_npz({"ids": ids, "features": features})
        for uri in self._copies(shard_digest):
            if uri not in self._refused:
                self.uris[shard_digest] = uri
                share_bytes(self._storage, uri, data)
                return

    def gather(self, ids: BytesIds, into: Float32Features) -> NDArray[np.bool_]:
        """Copy what the other files hold of these pictures; return which rows were filled."""
        if self._places is None:
            self._places = dict(self._index())
        wanted: dict[str, list[tuple[int, int]]] = {}
        for row, id in enumerate(ids):
            if id in self._places:
                uri, place = self._places[id]
                wanted.setdefault(uri, []).append((row, place))
        filled = np.zeros(len(ids), np.bool_)
        for uri, pairs in wanted.items():
            if (arrays := self._read(uri, self._schema)) is not None:
                rows, places = (list(column) for column in zip(*pairs, strict=True))
                into[rows] = arrays["features"][places]
                filled[rows] = True
        return filled

    def _index(self) -> Iterator[tuple[bytes, tuple[str, int]]]:
        for uri in self._storage.list_uris(self._folder.shards):
            if uri not in self._refused and (arrays := self._read(uri, {"ids": _LABELS["ids"]})) is not None:
                yield from ((id, (uri, place)) for place, id in enumerate(arrays["ids"]))


def collect_features(
    shards: Iterable[PackedShard],
    storage: Storage,
    *,
    cache: FeatureCache,
    network: Network,
    alter: Alteration | None = None,
) -> TrainingFeatures:
    """Return the features of every training picture of a pack, shard by shard.

    Args:
        shards: Those of the pack; its test pictures are no business of a training job.
        storage: Where the shards are.
        cache: What was forwarded before.
        network: From uint8 pixels to features.
        alter: Changes the pixels before the network sees them; it needs a cache of its own.
    """
    parts, forwarded = [], 0
    for shard in shards:
        path = storage.local_path(shard.uri)
        rows = read_npz(path, _LABELS)
        features = cache.read(shard.digest, rows["ids"])
        if features is None:
            features, missing = _forward_missing(path, rows["ids"], cache, network, alter)
            forwarded += missing
            cache.write(shard.digest, rows["ids"], features)
            logger.info("%s: %d of %d pictures forwarded", shard.uri, missing, len(features))
        parts.append((features, rows["labels"], rows["ids"]))
    features, labels, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    return TrainingFeatures(
        features=features,
        labels=labels,
        ids=tuple(id.decode() for id in ids),
        work=FeatureWork(forwarded=forwarded, cached=len(labels) - forwarded),
        uris=tuple(cache.uris.values()),
    )


def _forward_missing(
    path: Path, ids: BytesIds, cache: FeatureCache, network: Network, alter: Alteration | None
) -> tuple[Float32Features, int]:
    """Return the features of a shard, and how many pictures went through the network for them."""
    features = np.empty((len(ids), cache.feature_width), np.float32)
    missing = ~cache.gather(ids, features)
    for rows, pixels in _pixel_batches(path, missing):
        features[rows] = network(pixels if alter is None else alter(pixels, ids[rows]))
    return features, int(missing.sum())


def read_labels(shard_uri: str, storage: Storage) -> Int64Labels:
    """Return the labels of a pack shard."""
    return read_npz(storage.local_path(shard_uri), {"labels": _LABELS["labels"]})["labels"]


def read_first_pixels(shards: Sequence[PackedShard], storage: Storage, number: int) -> UInt8Images:
    """Return the pixels of the first pictures of a pack, at most this many, in its order."""
    path = storage.local_path(shards[0].uri)
    return next(iterate_rows(path, "features", rows=number))


def _pixel_batches(path: Path, wanted: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], UInt8Images]]:
    """Yield row numbers and pixels of the wanted rows, without holding more than a batch of the shard."""
    if not wanted.any():
        return
    start = 0
    for pixels in iterate_rows(path, "features", rows=BATCH_SIZE):
        chosen = wanted[start : start + len(pixels)]
        if chosen.any():
            yield start + np.flatnonzero(chosen), pixels[chosen]
        start += len(pixels)
