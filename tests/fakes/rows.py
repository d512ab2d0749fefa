"""Short ways to the rows and folders of a dataset in the workspace of the tests."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.pack import PackIndex
from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage

WORKSPACE = "gs://graft"
PLAIN = {
    "blob": "b",
    "label": "ant",
    "position": 0,
    "source_url": "u",
    "retrieved_at": "t",
    "status": "kept",
}


def workspace_of(storage: Storage) -> Workspace:
    return Workspace(storage, WORKSPACE)


def dataset_folder(storage: Storage, name: str = "toys") -> DatasetFolder:
    return workspace_of(storage).dataset(name)


def manifest_of(storage: Storage, version: str, name: str = "toys") -> Manifest:
    return Manifest(dataset_folder(storage, name).version(version))


def manifest_rows(storage: Storage, version: str, name: str = "toys") -> list[ManifestRow]:
    return list(manifest_of(storage, version, name).rows())


def manifest_row(**values: Any) -> ManifestRow:
    """Return a row by its JSON keys; what is not named is made up."""
    return ManifestRow.from_dict({**PLAIN, **values})


def index_rows(storage: Storage, *uris: str | None) -> list[FetchedRow]:
    return list(FetchIndex(storage, [uri for uri in uris if uri is not None]).rows())


def pack_index(**values: Any) -> PackIndex:
    """Return a pack index; what is not named is made up."""
    return PackIndex.from_dict(
        {"dataset": "toys", "version": "d_1", "spec": {}, "classes": [], "shards": [], "tests": [], **values}
    )
