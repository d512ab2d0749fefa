"""From a `source` section to the source itself."""

from __future__ import annotations

from pipeline.config import SourceConfig
from pipeline.datasets.folder import FolderSource
from pipeline.datasets.npz_archive import NpzSource
from pipeline.datasets.sample import SampleSource
from pipeline.datasets.source import ImageSource
from pipeline.storage import Storage
from pipeline.types import JsonDict


def open_source(config: SourceConfig, *, storage: Storage, previous: JsonDict) -> ImageSource:
    """Make the source that a classifier names; nothing is read yet.

    Args:
        config: The `source` section.
        storage: Reads paths and `gs://` URIs.
        previous: The notes that the same source left the last time, empty before the first.
    """
    if config.type == "sample":
        return SampleSource(classes=config.classes)
    uri = config.uri or ""
    if config.type == "folder":
        return FolderSource(uri, classes=config.classes, storage=storage)
    return NpzSource(uri, classes=config.classes or [], storage=storage, previous=previous)
