"""The split ledger: where every picture that a `hash` split ever saw was put.

`datasets/<name>/splits.jsonl`, in the order the pictures were first seen. It only grows, so a picture that
leaves the source and comes back finds its old side. It is written before the version that needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from pipeline.artifacts.dataset import ManifestRow, iterate_manifest
from pipeline.errors import ObjectNotFound
from pipeline.preprocess.dedup.fingerprint import examine_picture
from pipeline.preprocess.dedup.grouping import SplitAssignment
from pipeline.storage import Storage


def split_registry_uri(workspace: str, dataset: str) -> str:
    """Return the ledger's URI."""
    return f"{workspace}/datasets/{dataset}/splits.jsonl"


def read_split_registry(storage: Storage, workspace: str, dataset: str) -> list[SplitAssignment]:
    """Return every picture seen so far, empty before the first."""
    try:
        data = storage.read_bytes(split_registry_uri(workspace, dataset))
    except ObjectNotFound:
        return []
    return [SplitAssignment(**json.loads(line)) for line in data.splitlines()]


def write_split_registry(
    seen: Sequence[SplitAssignment], storage: Storage, workspace: str, dataset: str
) -> None:
    """Replace the ledger as a whole."""
    lines = (json.dumps(asdict(picture), sort_keys=True) for picture in seen)
    storage.write_bytes(
        split_registry_uri(workspace, dataset), "".join(f"{line}\n" for line in lines).encode()
    )


def fill_alignment_thumbnails(
    seen: Sequence[SplitAssignment],
    rows: Iterable[ManifestRow],
    storage: Storage,
    workspace: str,
    dataset: str,
) -> list[SplitAssignment]:
    """Return the ledger with the sketches that an earlier release did not draw.

    They come from the rows just examined or, for pictures that left the source, from their blobs. A picture
    whose blob is gone as well keeps the facts it has.
    """
    bare = {picture.id for picture in seen if picture.sketch is None and picture.phash is not None}
    if not bare:
        return list(seen)
    drawn = {row.id: row.sketch for row in rows if row.id in bare}
    uris = storage.list_uris(f"{workspace}/datasets/{dataset}/")
    for uri in (uri for uri in uris if uri.endswith("/manifest.jsonl")):
        for row in iterate_manifest(uri, storage):
            if row.id not in bare or row.id in drawn:
                continue
            blob = f"{workspace}/blobs/{row.blob}"
            if storage.exists(blob):
                drawn[row.id] = examine_picture(storage.read_bytes(blob)).sketch
    return [
        replace(picture, sketch=drawn[picture.id]) if picture.id in drawn else picture for picture in seen
    ]
