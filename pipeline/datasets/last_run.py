"""What a fetch need not read again: the rows of the last run whose blobs are still there."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.workspace import Workspace
from pipeline.types import JsonObject


@dataclass(frozen=True, slots=True)
class BlobStore:
    """The picture files of a workspace, named by what they hold.

    Args:
        workspace: Where they are.
    """

    workspace: Workspace

    def keep(self, data: bytes) -> str:
        """Store a file unless it is there; return its SHA-256."""
        blob = hashlib.sha256(data).hexdigest()
        self.workspace.storage.create_bytes(self.workspace.blob(blob), data)
        return blob

    def has(self, blob: str) -> bool:
        """Return True if there is such a file."""
        return self.workspace.storage.exists(self.workspace.blob(blob))

    def existing(self, blobs: Collection[str]) -> set[str]:
        """Return those of some files that are there."""
        uris = {self.workspace.blob(blob): blob for blob in blobs}
        return {uris[uri] for uri in self.workspace.storage.existing(uris)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """What the last run of every chunk left; empty before the first.

    Args:
        notes: The sources' notes, by number; none if a blob is gone, so that sources are read again.
        files: Rows of sources that are read by Graft, by address and validator.
        downloads: Rows of network sources by address: fetched, or refused for what they are.
    """

    notes: Mapping[str, JsonObject]
    files: Mapping[tuple[str, str], FetchedRow]
    downloads: Mapping[str, FetchedRow]


def read_last_run(dataset: DatasetFolder, blobs: BlobStore) -> LastRun:
    """Read the last run's indexes, leaving out rows whose blobs are gone."""
    index = FetchIndex.of_last_run(dataset)
    files: dict[tuple[str, str], FetchedRow] = {}
    downloads: dict[str, FetchedRow] = {}
    is_whole = True
    rows = list(index.rows())
    there = blobs.existing({row.blob for row in rows if row.blob})
    for row in rows:
        if row.blob and row.blob not in there:
            is_whole = False
        elif row.network and (row.blob or (row.reason and (row.etag or row.last_modified))):
            downloads[row.source_url] = row
        elif row.blob:
            files[row.source_url, row.validator] = row
    return LastRun(notes=index.head().notes if is_whole else {}, files=files, downloads=downloads)
