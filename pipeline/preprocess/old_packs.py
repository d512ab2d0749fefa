"""Packs that nobody needs: their dataset version is old, not the latest, and no served version is made of it.

Pictures and dataset versions stay for ever, so a pack that is wanted after all is made of them again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from pipeline.datasets.manifest import DatasetInfo
from pipeline.storage import Storage

log = logging.getLogger(__name__)


def delete_old_packs(
    storage: Storage,
    workspace: str,
    *,
    needed: Collection[str],
    live: Collection[str],
    before: datetime,
) -> list[str]:
    """Delete packs, their features and test files; return the dataset versions whose packs they were.

    A shard that a pack which stays has too, stays, and so do its features.

    Args:
        storage: The buckets.
        workspace: The bucket of datasets and packs.
        needed: Dataset versions that versions of models are made of.
        live: Datasets of runs that have not ended: nothing of theirs goes.
        before: Packs of dataset versions made later stay.
    """
    indexes = [uri for uri in storage.list_uris(f"{workspace}/packs/") if uri.endswith(".json")]
    versions = {uri.split("/")[-2] for uri in indexes}
    old = sorted(
        versions & {info.version for info in _replaced(storage, workspace, live, before)} - {*needed}
    )
    if not old:
        return []
    shards: dict[bool, set[str]] = {True: set(), False: set()}
    for uri in indexes:
        if not uri.endswith("/groups.json"):
            found = {entry["uri"] for entry in storage.read_json(uri)["shards"]}
            shards[uri.split("/")[-2] in old] |= found
    for version in old:
        log.info("deleting the packs of dataset version %s", version)
        storage.delete_tree(f"{workspace}/tests/{version}")
    _delete_shards(storage, workspace, shards[True] - shards[False])
    for version in old:  # last, for they say what else there is to delete
        storage.delete_tree(f"{workspace}/packs/{version}")
    return old


def _replaced(
    storage: Storage, workspace: str, live: Collection[str], before: datetime
) -> Iterator[DatasetInfo]:
    """Yield the old versions of each dataset but the latest one and one held back beside it."""
    uris = storage.list_uris(f"{workspace}/datasets/")
    latest = {
        name for uri in uris if uri.endswith("/latest.json") for name in storage.read_json(uri).values()
    }
    for uri in uris:
        if uri.endswith("/dataset.json"):
            info = DatasetInfo.from_dict(storage.read_json(uri))
            is_old = datetime.fromisoformat(info.created_at).astimezone(UTC) < before
            if is_old and info.version not in latest and info.dataset not in live:
                yield info


def _delete_shards(storage: Storage, workspace: str, shards: Collection[str]) -> None:
    names = {uri.rpartition("/")[2] for uri in shards}
    for uri in storage.list_uris(f"{workspace}/features/"):
        if uri.rpartition("/")[2] in names:
            storage.delete(uri)
    for uri in shards:
        storage.delete(uri)
        storage.delete(f"{uri.removesuffix('.npz')}.jsonl")
