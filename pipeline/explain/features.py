"""The training pictures of a version, with the features that were cached when it was trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.takedowns import read_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ObjectNotFound
from pipeline.npz import ArraySpec, read_npz
from pipeline.storage import Storage
from pipeline.types import Float32Features

MAX_PICTURES = 20_000  # 100 MB of features; the report says when there are more
_SCHEMA = {"ids": ArraySpec(kinds="S", shape=(None,)), "features": ArraySpec(kinds="f", shape=(None, None))}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFeatures:
    """Features of training pictures.

    Args:
        ids: Ids of the pictures.
        features: One row a picture.
    """

    ids: tuple[str, ...]
    features: Float32Features


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPictures:
    """What a version was trained on.

    Args:
        rows: The training pictures, by id.
        cached: Their features; None where none are left.
    """

    rows: Mapping[str, ManifestRow]
    cached: CachedFeatures | None


def read_training_pictures(dataset: DatasetVersionFolder, job: JobDirectory) -> TrainingPictures:
    """Read the training pictures of a dataset version, and the features that a training job cached."""
    manifest = Manifest(dataset).rows()
    rows = {row.id: row for row in manifest if row.split == "train" and row.id is not None}
    return TrainingPictures(rows=rows, cached=read_features(job.storage, feature_uris(job), wanted=rows))


def feature_uris(job: JobDirectory) -> tuple[str, ...]:
    """Return where the features are that a training job cached; none if it left no record."""
    try:
        return tuple(job.storage.read_json(job.training)["features"])
    except ObjectNotFound:
        return ()


def read_features(storage: Storage, uris: Sequence[str], *, wanted: Collection[str]) -> CachedFeatures | None:
    """Read the cached features of the wanted pictures, at most twenty thousand; None where none is left."""
    ids: list[str] = []
    parts = []
    for uri in uris:
        try:
            arrays = read_npz(storage.local_path(uri), _SCHEMA)
        except ObjectNotFound:
            continue
        names = [name.decode() for name in arrays["ids"]]
        rows = [row for row, name in enumerate(names) if name in wanted][: MAX_PICTURES - len(ids)]
        ids += [names[row] for row in rows]
        parts.append(arrays["features"][rows])
    if not ids:
        return None
    return CachedFeatures(ids=tuple(ids), features=np.concatenate(parts))


def read_taken_down(workspace: Workspace, dataset: str) -> frozenset[str]:
    """Return the ids and digests of the pictures of a dataset that must not be shown any more."""
    takedowns = read_takedowns(workspace.dataset(dataset))
    return frozenset(digest for each in takedowns for digest in (each.id, *each.blobs) if digest is not None)
