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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.artifacts.dataset import DatasetInfo, list_versions, read_info
from pipeline.artifacts.integrity import read_blob
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.pack import PackedShard, PackedTests, PackIndex, ShardRow, read_pack_index
from pipeline.artifacts.steps import PackItem, PackResult
from pipeline.artifacts.workspace import Workspace
from pipeline.npz import save_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess.decoding import decode_blobs
from pipeline.preprocess.split import TEST, TRAIN, VALIDATION
from pipeline.types import ShardArray

log = logging.getLogger(__name__)

MAX_SHARD_ROWS = 256
TEST_ITEM = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """Where the pack index is, and what is left to do.

    Args:
        index_uri: The pack index.
        index: Its content.
        items: What `pack_shard` is to be called with: the shards that are not there yet, and `"test"`.
    """

    index_uri: str
    index: PackIndex
    items: list[PackItem]


def plan_pack(workspace: Workspace, dataset: str, version: str, spec: PixelSpec) -> PackPlan:
    """Decide the shards of a dataset version and write its pack index.

    A shard of an earlier version is kept if all its rows are still training rows with the same labels.

    Args:
        workspace: Where versions and packs are.
        dataset: The classifier's name.
        version: The dataset version.
        spec: The pixels that the network wants; how many bits are used, the dataset version tells.
    """
    storage = workspace.storage
    info = read_info(workspace.dataset(dataset).version(version))
    spec = replace(spec, bits=info.bits)
    train, num_tests = _read_rows(workspace, info)
    shards = _plan_shards(workspace, train, info, spec)
    for shard, rows in shards:
        shard.write_rows(storage, rows)
    index = PackIndex(
        dataset=dataset,
        version=version,
        spec=spec.to_dict(),
        classes=info.classes,
        shards=[shard for shard, _ in shards],
        tests=_plan_tests(workspace, num_tests, version),
        groups=_write_groups(workspace, info),
        validation=_write_validation(workspace, info),
    )
    index_uri = workspace.pack_index(version, spec.digest)
    if not storage.exists(index_uri) or read_pack_index(storage, index_uri) != index:
        storage.write_json(index_uri, index.to_dict())
    packed = storage.existing([shard.uri for shard, _ in shards])
    missing: list[PackItem] = [number for number, (shard, _) in enumerate(shards) if shard.uri not in packed]
    log.info("%s %s: %d shards, %d of them to be packed", dataset, version, len(shards), len(missing))
    return PackPlan(index_uri=index_uri, index=index, items=[*missing, TEST_ITEM])


def pack_shard(workspace: Workspace, index_uri: str, item: PackItem) -> PackResult:
    """Make one shard, or the test files; nothing is decoded if they are there.

    Args:
        workspace: Where blobs and packs are.
        index_uri: The pack index.
        item: A shard's place in the index, or `"test"`.

    Returns:
        Pictures decoded, and whether anything was written.
    """
    storage = workspace.storage
    index = read_pack_index(storage, index_uri)
    if item == TEST_ITEM:
        return PackResult(decoded=0, written=int(_write_tests(workspace, index)))
    shard = index.shards[int(item)]
    if storage.exists(shard.uri):
        return PackResult(decoded=0, written=0)
    rows = list(shard.read_rows(storage))
    features = decode_blobs(workspace, [row.blob for row in rows], PixelSpec.from_dict(index.spec))
    labels = np.array([row.label for row in rows], np.int64)
    ids = np.array([row.id for row in rows], "S64")
    arrays: dict[str, ShardArray] = {"features": features, "labels": labels, "ids": ids}
    written = storage.write_large(shard.uri, partial(save_npz, arrays=arrays), if_absent=True)
    log.info("%s: %d pictures, %d bytes of pixels", shard.uri, len(rows), features.nbytes)
    return PackResult(decoded=len(rows), written=int(written))


def _read_rows(workspace: Workspace, info: DatasetInfo) -> tuple[dict[str, ShardRow], int]:
    numbers = {label: number for number, label in enumerate(info.classes)}
    train, num_tests = {}, 0
    for row in _split_rows(workspace, info.dataset, info.version, "id", "label", "blob"):
        if row.split == TRAIN and row.id is not None:
            train[row.id] = ShardRow(row.id, numbers[row.label], row.blob)
        num_tests += row.split == TEST
    return train, num_tests


def _split_rows(workspace: Workspace, dataset: str, version: str, *columns: str) -> Iterator[ManifestRow]:
    rows = Manifest(workspace.dataset(dataset).version(version)).rows(columns=(*columns, "split"))
    return (row for row in rows if row.split is not None)


def _plan_shards(
    workspace: Workspace, train: Mapping[str, ShardRow], info: DatasetInfo, spec: PixelSpec
) -> list[tuple[PackedShard, list[ShardRow]]]:
    kept = _keep_shards(workspace, train, info, spec)
    packed = {row.id for shard in kept for row in shard}
    left = [row for row in train.values() if row.id not in packed]
    fresh = [left[start : start + MAX_SHARD_ROWS] for start in range(0, len(left), MAX_SHARD_ROWS)]
    return [(_name_shard(workspace, rows, spec), rows) for rows in (*kept, *fresh)]


def _keep_shards(
    workspace: Workspace, train: Mapping[str, ShardRow], info: DatasetInfo, spec: PixelSpec
) -> list[list[ShardRow]]:
    """Return the rows of the earlier shards that still fit, no picture in two of them."""
    kept: list[list[ShardRow]] = []
    packed: set[str] = set()
    for shard in _earlier_shards(workspace, info, spec):
        rows = list(shard.read_rows(workspace.storage))
        ids = {row.id for row in rows}
        fits = all(row.id in train and train[row.id].label == row.label for row in rows)
        if fits and not ids & packed:
            packed |= ids
            kept.append(rows)
    return kept


def _earlier_shards(workspace: Workspace, info: DatasetInfo, spec: PixelSpec) -> list[PackedShard]:
    """Return the shards of this and the dataset's earlier versions, oldest version first."""
    shards: dict[str, PackedShard] = {}
    for version in list_versions(workspace.dataset(info.dataset)):
        index_uri = workspace.pack_index(version, spec.digest)
        if workspace.storage.exists(index_uri):
            index = read_pack_index(workspace.storage, index_uri)
            for shard in index.shards:
                shards.setdefault(shard.uri, shard)
    return list(shards.values())


def _write_groups(workspace: Workspace, info: DatasetInfo) -> str:
    """Write which training pictures share a group, for the trainer's validation split; return where."""
    uri = workspace.pack_groups(info.version)
    if not workspace.storage.exists(uri):
        rows = _split_rows(workspace, info.dataset, info.version, "id", "group")
        groups = {row.id: row.group for row in rows if row.split == TRAIN and row.group != row.id}
        workspace.storage.write_json(uri, groups)
    return uri


def _write_validation(workspace: Workspace, info: DatasetInfo) -> str | None:
    """Write which training pictures judge, whole groups of near duplicates only; None without any."""
    rows = [
        row
        for row in _split_rows(workspace, info.dataset, info.version, "id", "group", "role")
        if row.split == TRAIN
    ]
    training = {row.group for row in rows if row.role != VALIDATION}
    ids = sorted(row.id for row in rows if row.role == VALIDATION and row.group not in training and row.id)
    if not ids:
        return None
    uri = workspace.pack_validation(info.version)
    if not workspace.storage.exists(uri):
        workspace.storage.write_json(uri, ids)
    return uri


def _name_shard(workspace: Workspace, rows: Sequence[ShardRow], spec: PixelSpec) -> PackedShard:
    digest = hashlib.sha256(spec.digest.encode())
    for row in rows:
        digest.update(f"{row.id} {row.label}\n".encode())
    name = digest.hexdigest()
    return PackedShard(uri=workspace.pack_shard(spec.digest, name), digest=name, rows=len(rows))


def _plan_tests(workspace: Workspace, num_tests: int, version: str) -> list[PackedTests]:
    return [
        PackedTests(uri=workspace.test_shard(version, number), rows=min(MAX_SHARD_ROWS, num_tests - start))
        for number, start in enumerate(range(0, num_tests, MAX_SHARD_ROWS))
    ]


def _write_tests(workspace: Workspace, index: PackIndex) -> bool:
    """Write the test files that are missing, each in the memory of one file."""
    rows = (
        row for row in _split_rows(workspace, index.dataset, index.version, "id", "blob") if row.split == TEST
    )
    storage, written = workspace.storage, False
    for tests in index.tests:
        part = [next(rows) for _ in range(tests.rows)]
        if not storage.exists(tests.uri):
            written |= storage.create_bytes(tests.uri, b"".join(_encode_tests(workspace, part)))
    return written


def _encode_tests(workspace: Workspace, rows: Iterable[ManifestRow]) -> Iterator[bytes]:
    for row in rows:
        data = base64.b64encode(read_blob(workspace.storage, workspace.blob(row.blob))).decode()
        yield json.dumps({"key": row.id, "inputs": {"b64": data}}).encode() + b"\n"
