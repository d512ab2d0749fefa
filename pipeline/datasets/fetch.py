"""Fetch: bring a source's pictures into the bucket, reading only what is new or changed."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TypedDict

from pipeline.config import Classifier
from pipeline.datasets.index import FetchedRow, FetchIndex, index_uri, read_previous_index, write_index
from pipeline.datasets.registry import open_source
from pipeline.datasets.source import SourceEntry
from pipeline.storage import Storage

log = logging.getLogger(__name__)


class FetchResult(TypedDict):
    """What one chunk of `fetch` did: the index it wrote and the counts."""

    index: str
    found: int
    downloaded: int
    reused: int


def fetch_pictures(
    classifier: Classifier, *, storage: Storage, workspace: str, chunk: int = 0, num_chunks: int = 1
) -> FetchResult:
    """Bring one chunk of a classifier's pictures into `blobs/` and write the chunk's fetch index.

    An entry whose address and validator are those of the last run is not read again. Blobs are created if
    absent and the index is replaced at the very end, so a killed fetch can simply be run again.

    Args:
        classifier: Says where the pictures are.
        storage: Where blobs and index go.
        workspace: `gs://bucket` of both.
        chunk: Which part to fetch, 0 to num_chunks - 1.
        num_chunks: How many parts there are.

    Returns:
        The index's URI; entries found; files transferred from the source; entries not read again.

    Raises:
        DatasetError: if the source cannot give a dataset; nothing is written then.
        StorageError: if reading or writing failed; transient.
    """
    name = classifier.name
    previous = read_previous_index(workspace, name, storage)
    known = _rows_with_blobs(previous, storage, workspace)
    notes = previous.notes if len(known) == len(previous.rows) else {}
    source = open_source(classifier.dataset.source, storage=storage, previous=notes)
    rows, reused = [], 0
    for entry in source.entries(chunk, num_chunks):
        old = known.get((entry.source_url, entry.validator))
        if old is not None:
            reused += 1
            rows.append(_row(entry, blob=old.blob, retrieved_at=old.retrieved_at))
        else:
            rows.append(_store(entry, storage, workspace))
    uri = index_uri(workspace, name, chunk)
    write_index(FetchIndex(rows=rows, notes=source.notes, statements=source.statements), uri, storage)
    _drop_indexes_beyond(num_chunks, storage, workspace, name)
    log.info(
        "%s, chunk %d of %d: %d pictures found, %d files transferred, %d pictures not read again",
        name, chunk + 1, num_chunks, len(rows), source.transferred, reused,
    )  # fmt: skip
    return {"index": uri, "found": len(rows), "downloaded": source.transferred, "reused": reused}


def _rows_with_blobs(
    index: FetchIndex, storage: Storage, workspace: str
) -> dict[tuple[str, str], FetchedRow]:
    return {
        (row.source_url, row.validator): row
        for row in index.rows
        if storage.exists(f"{workspace}/blobs/{row.blob}")
    }


def _drop_indexes_beyond(num_chunks: int, storage: Storage, workspace: str, name: str) -> None:
    for uri in storage.list_uris(f"{workspace}/datasets/{name}/fetched/"):
        if uri >= index_uri(workspace, name, num_chunks):
            storage.delete(uri)


def _store(entry: SourceEntry, storage: Storage, workspace: str) -> FetchedRow:
    data = entry.read()
    blob = hashlib.sha256(data).hexdigest()
    storage.create_bytes(f"{workspace}/blobs/{blob}", data)
    return _row(entry, blob=blob, retrieved_at=datetime.now(UTC).isoformat(timespec="seconds"))


def _row(entry: SourceEntry, *, blob: str, retrieved_at: str) -> FetchedRow:
    return FetchedRow(
        position=entry.position,
        label=entry.label,
        source_url=entry.source_url,
        validator=entry.validator,
        blob=blob,
        retrieved_at=retrieved_at,
        group=entry.group,
        page_url=entry.page_url,
        creator=entry.creator,
        license=entry.license,
        license_url=entry.license_url,
    )
