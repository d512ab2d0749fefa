"""Test pictures and manifests made by hand."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.storage import Storage
from tests.fakes.rows import manifest_row


def row(id: str, label: str = "cat", **changes: Any) -> ManifestRow:
    """A kept test picture, unless told otherwise."""
    return manifest_row(**{"id": id, "label": label, "split": "test", "source_url": "", **changes})


def write_rows(storage: Storage, dataset_uri: str, *rows: ManifestRow) -> None:
    """Write the manifest of a dataset version."""
    Manifest(DatasetVersionFolder(storage, dataset_uri)).write(rows)
