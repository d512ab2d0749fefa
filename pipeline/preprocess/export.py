"""Export: a dataset version as NPZ files that any program can read, in the memory of one file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.artifacts.dataset import EXPORT_LABELS, read_info
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.npz import save_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.preprocess.decoding import decode_blobs
from pipeline.preprocess.split import TEST, TRAIN
from pipeline.storage import Storage
from pipeline.types import ShardArray

log = logging.getLogger(__name__)

FILE_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """The files that were written, and the pictures in them by side of the split."""

    version: str
    target: str
    files: list[str]
    train: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: str
    rows: Sequence[ManifestRow]


def export_version(
    workspace: Workspace, dataset: str, version: str, *, target: str, height: int, width: int
) -> ExportResult:
    """Write a version as `train-00000-of-0000N.npz`, `test-...`, its labels, manifest and attribution.

    Args:
        workspace: Where versions and blobs are.
        dataset: The classifier's name.
        version: The dataset version.
        target: A directory or `gs://bucket/prefix`; it may hold an earlier export of the same shape.
        height: Rows of the exported pictures.
        width: Columns of the exported pictures.

    Shapes:
        features: (n, height, width, 3) uint8.  labels: (n,) int64.  ids: (n,) ASCII.

    Raises:
        ConfigError: if the target holds NPZ files that are not of this export.
    """
    storage, folder = workspace.storage, workspace.dataset(dataset).version(version)
    info, target = read_info(folder), target.rstrip("/")
    columns = ("id", "blob", "label", "split")
    rows = [row for row in Manifest(folder).rows(columns) if row.split is not None]
    files = list(_plan_files(rows))
    _check_target(storage, target, {file.name for file in files})
    numbers = {label: number for number, label in enumerate(info.classes)}
    spec = PixelSpec(height=height, width=width, offset=0.0, divisor=1.0, bits=info.bits)
    for file in files:
        features = decode_blobs(workspace, [row.blob for row in file.rows], spec)
        labels = np.array([numbers[row.label] for row in file.rows], np.int64)
        ids = np.array([row.id for row in file.rows], "S64")
        arrays: dict[str, ShardArray] = {"features": features, "labels": labels, "ids": ids}
        storage.write_large(f"{target}/{file.name}", partial(save_npz, arrays=arrays))
        log.info("%s: %d pictures", file.name, len(file.rows))
    storage.write_json(f"{target}/{EXPORT_LABELS}", info.classes)
    for uri in (folder.manifest, folder.attribution, folder.croissant, folder.page):
        if storage.exists(uri):
            storage.write_bytes(f"{target}/{uri.rpartition('/')[2]}", storage.read_bytes(uri))
    train, test = (sum(row.split == side for row in rows) for side in (TRAIN, TEST))
    return ExportResult(
        version=version, target=target, files=[file.name for file in files], train=train, test=test
    )


def _plan_files(rows: Sequence[ManifestRow]) -> Iterator[_File]:
    for side in (TRAIN, TEST):
        chosen = [row for row in rows if row.split == side]
        starts = range(0, len(chosen), FILE_ROWS)
        for number, start in enumerate(starts):
            name = f"{side}-{number:05d}-of-{len(starts):05d}.npz"
            yield _File(name=name, rows=chosen[start : start + FILE_ROWS])


def _check_target(storage: Storage, target: str, names: set[str]) -> None:
    """Refuse a target where a reader of `train-*` would find pictures of another export."""
    names_there = {uri.rpartition("/")[2] for uri in storage.list_uris(f"{target}/")}
    others = sorted(name for name in names_there - names if name.endswith(".npz"))
    if others:
        raise ConfigError(
            f"{target} holds {', '.join(others[:3])}, which this export does not write; choose another "
            "directory or remove them.",
            target=target,
        )
