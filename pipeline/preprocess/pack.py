"""Pack: the training pixels of a dataset version as NPZ shards, its test pictures as keyed JSONL.

`plan_pack` decides which rows go into which shard and writes the pack index. `pack_shard` makes one item of
it, in the memory of one shard. Shards are named by what they hold: those of earlier versions that still fit
are kept, so new pictures cost new shards only. A test picture's pixels never reach a shard.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.dataset import (
    DatasetInfo,
    ManifestRow,
    iterate_manifest,
    read_dataset_info,
    version_uri,
)
from pipeline.artifacts.steps import PackItem, PackResult
from pipeline.npz import save_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess.decoding import decode_blobs
from pipeline.preprocess.split import TEST, TRAIN
from pipeline.storage import Storage
from pipeline.types import JsonDict

log = logging.getLogger(__name__)

MAX_SHARD_ROWS = 256
TEST_ITEM = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """Where the pack index is, and what is left to do.

    Args:
        index_uri: The pack index.
        index: Its content: `dataset`, `version`, `spec`, `classes`, `shards`, `tests`, `groups`.
        items: What `pack_shard` is to be called with: the shards that are not there yet, and `"test"`.
    """

    index_uri: str
    index: JsonDict
    items: list[PackItem]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values, without the index."""
        return {"index_uri": self.index_uri, "items": self.items}


@dataclass(frozen=True, slots=True, order=True)
class _ShardRow:
    id: str
    label: int
    blob: str


def plan_pack(storage: Storage, workspace: str, dataset: str, version: str, spec: PixelSpec) -> PackPlan:
    """Decide the shards of a dataset version and write its pack index.

    A shard of an earlier version is kept if all its rows are still training rows with the same labels.

    Args:
        storage: Where versions and packs are.
        workspace: `gs://bucket` of both.
        dataset: The classifier's name.
        version: The dataset version.
        spec: The pixels that the network wants.
    """
    info = read_dataset_info(storage, workspace, dataset, version)
    index_uri = f"{workspace}/packs/{version}/{spec.digest}.json"
    train, num_tests = _read_rows(info, storage, workspace)
    kept = _keep_shards(train, info, spec, storage, workspace)
    packed = {row.id for shard in kept for row in shard}
    left = [row for row in train.values() if row.id not in packed]
    fresh = [left[start : start + MAX_SHARD_ROWS] for start in range(0, len(left), MAX_SHARD_ROWS)]
    shards = [_name_shard(rows, spec, workspace) for rows in (*kept, *fresh)]
    for entry, rows in zip(shards, (*kept, *fresh), strict=True):
        lines = (json.dumps(asdict(row), sort_keys=True) for row in rows)
        storage.create_bytes(_rows_uri(entry["uri"]), "".join(f"{line}\n" for line in lines).encode())
    index = {
        "dataset": dataset,
        "version": version,
        "spec": spec.to_dict(),
        "classes": info.classes,
        "shards": shards,
        "tests": _name_tests(num_tests, version, workspace),
        "groups": _write_groups(info, storage, workspace),
    }
    if not storage.exists(index_uri) or storage.read_json(index_uri) != index:
        storage.write_json(index_uri, index)
    missing: list[PackItem] = [
        number for number, entry in enumerate(shards) if not storage.exists(entry["uri"])
    ]
    log.info("%s %s: %d shards, %d of them to be packed", dataset, version, len(shards), len(missing))
    return PackPlan(index_uri=index_uri, index=index, items=[*missing, TEST_ITEM])


def pack_shard(storage: Storage, workspace: str, index_uri: str, item: PackItem) -> PackResult:
    """Make one shard, or the test files; nothing is decoded if they are there.

    Args:
        storage: Where blobs and packs are.
        workspace: `gs://bucket` of both.
        index_uri: The pack index.
        item: A shard's place in the index, or `"test"`.

    Returns:
        Pictures decoded, and whether anything was written.
    """
    index = storage.read_json(index_uri)
    if item == TEST_ITEM:
        return PackResult(decoded=0, written=int(_write_tests(index, storage, workspace)))
    entry = index["shards"][int(item)]
    if storage.exists(entry["uri"]):
        return PackResult(decoded=0, written=0)
    rows = _read_shard_rows(entry["uri"], storage)
    spec = PixelSpec.from_dict(index["spec"])
    features = decode_blobs([row.blob for row in rows], spec, storage, workspace)
    labels = np.array([row.label for row in rows], np.int64)
    ids = np.array([row.id for row in rows], "S64")
    arrays: dict[str, NDArray[Any]] = {"features": features, "labels": labels, "ids": ids}
    written = storage.write_large(entry["uri"], partial(save_npz, arrays=arrays), if_absent=True)
    log.info("%s: %d pictures, %d bytes of pixels", entry["uri"], len(rows), features.nbytes)
    return PackResult(decoded=len(rows), written=int(written))


def _read_rows(info: DatasetInfo, storage: Storage, workspace: str) -> tuple[dict[str, _ShardRow], int]:
    numbers = {label: number for number, label in enumerate(info.classes)}
    train, num_tests = {}, 0
    for row in _split_rows(info.dataset, info.version, storage, workspace):
        if row.split == TRAIN and row.id is not None:
            train[row.id] = _ShardRow(row.id, numbers[row.label], row.blob)
        num_tests += row.split == TEST
    return train, num_tests


def _split_rows(dataset: str, version: str, storage: Storage, workspace: str) -> Iterator[ManifestRow]:
    uri = f"{version_uri(workspace, dataset, version)}/manifest.jsonl"
    return (row for row in iterate_manifest(uri, storage) if row.split is not None)


def _keep_shards(
    train: dict[str, _ShardRow], info: DatasetInfo, spec: PixelSpec, storage: Storage, workspace: str
) -> list[list[_ShardRow]]:
    """Return the rows of the earlier shards that still fit, no picture in two of them."""
    kept: list[list[_ShardRow]] = []
    packed: set[str] = set()
    for uri in _earlier_shards(info, spec, storage, workspace):
        rows = _read_shard_rows(uri, storage)
        ids = {row.id for row in rows}
        still = all(row.id in train and train[row.id].label == row.label for row in rows)
        if still and not ids & packed:
            packed |= ids
            kept.append(rows)
    return kept


def _earlier_shards(info: DatasetInfo, spec: PixelSpec, storage: Storage, workspace: str) -> list[str]:
    """Return the shards of this and the dataset's earlier versions, oldest version first."""
    versions = []
    for uri in storage.list_uris(f"{workspace}/datasets/{info.dataset}/"):
        if uri.endswith("/dataset.json"):
            other = DatasetInfo.from_dict(storage.read_json(uri))
            versions.append((other.created_at, other.version))
    found: dict[str, None] = {}
    for _, version in sorted(versions):
        index_uri = f"{workspace}/packs/{version}/{spec.digest}.json"
        if storage.exists(index_uri):
            found.update(dict.fromkeys(entry["uri"] for entry in storage.read_json(index_uri)["shards"]))
    return list(found)


def _write_groups(info: DatasetInfo, storage: Storage, workspace: str) -> str:
    """Write which training pictures share a group, for the trainer's validation split; return where."""
    uri = f"{workspace}/packs/{info.version}/groups.json"
    if not storage.exists(uri):
        rows = _split_rows(info.dataset, info.version, storage, workspace)
        groups = {row.id: row.group for row in rows if row.split == TRAIN and row.group != row.id}
        storage.write_json(uri, groups)
    return uri


def _name_shard(rows: Sequence[_ShardRow], spec: PixelSpec, workspace: str) -> JsonDict:
    digest = hashlib.sha256(spec.digest.encode())
    for row in rows:
        digest.update(f"{row.id} {row.label}\n".encode())
    name = digest.hexdigest()
    return {"uri": f"{workspace}/packs/{spec.digest}/{name}.npz", "digest": name, "rows": len(rows)}


def _rows_uri(shard_uri: str) -> str:
    """Return the list of what a shard holds: id, label and blob, a line a picture."""
    return shard_uri.removesuffix(".npz") + ".jsonl"


def _read_shard_rows(shard_uri: str, storage: Storage) -> list[_ShardRow]:
    lines = storage.read_bytes(_rows_uri(shard_uri)).splitlines()
    return [_ShardRow(**json.loads(line)) for line in lines]


def _name_tests(num_tests: int, version: str, workspace: str) -> list[JsonDict]:
    starts = range(0, num_tests, MAX_SHARD_ROWS)
    return [
        {
            "uri": f"{workspace}/tests/{version}/test-{number:05d}.jsonl",
            "rows": min(MAX_SHARD_ROWS, num_tests - start),
        }
        for number, start in enumerate(starts)
    ]


def _write_tests(index: JsonDict, storage: Storage, workspace: str) -> bool:
    """Write the test files that are missing, each in the memory of one file."""
    rows = (
        row
        for row in _split_rows(index["dataset"], index["version"], storage, workspace)
        if row.split == TEST
    )
    written = False
    for entry in index["tests"]:
        part = [next(rows) for _ in range(entry["rows"])]
        if not storage.exists(entry["uri"]):
            written |= storage.create_bytes(entry["uri"], b"".join(_encode_tests(part, storage, workspace)))
    return written


def _encode_tests(rows: Iterable[ManifestRow], storage: Storage, workspace: str) -> Iterator[bytes]:
    for row in rows:
        data = base64.b64encode(storage.read_bytes(f"{workspace}/blobs/{row.blob}")).decode()
        yield json.dumps({"key": row.id, "inputs": {"b64": data}}).encode() + b"\n"
