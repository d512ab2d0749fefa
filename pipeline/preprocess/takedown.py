"""Forgetting a picture: from the next version on it is in none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.artifacts.dataset import ManifestRow, iterate_manifest, list_versions, version_uri
from pipeline.errors import ConfigError
from pipeline.preprocess.decisions import Takedown, names_picture, read_takedowns, write_takedowns
from pipeline.storage import Storage

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What a takedown reaches.

    Args:
        ids: Digests of the pictures' pixels.
        urls: Their addresses.
        versions: The dataset versions that hold one of them, with the side of the split it is on.
        alike: Other pictures of their groups, by id: near duplicates, which stay.
    """

    ids: list[str]
    urls: list[str]
    versions: dict[str, str]
    alike: list[str]


def forget_picture(storage: Storage, workspace: str, dataset: str, name: str) -> Forgotten:
    """Take a picture down; what is equal to it in pixels, bytes or address is kept out as well.

    Versions that are there stay as they are: models were made from them.

    Args:
        storage: Where versions are.
        workspace: `gs://bucket` of them.
        dataset: The classifier's name.
        name: Id or digest of the file (eight characters or more), or an address.

    Raises:
        ConfigError: if the name fits no picture, or several different ones by their first characters.
    """
    known = [(version, row) for version, row in _all_rows(storage, workspace, dataset)]
    named = [row for _, row in known if names_picture(name, row)]
    is_address = "://" in name
    ids = sorted({row.id for row in named if row.id is not None})
    if not is_address and len(ids) > 1:
        raise ConfigError(
            f"{name!r} begins {len(ids)} digests of {dataset}; say more of it: {', '.join(ids)}"
        )
    if not named and not is_address and not DIGEST.fullmatch(name):
        raise ConfigError(
            f"{name!r} names no picture of {dataset}; say its id, the digest of its file (at least eight "
            "characters), or its address.",
            picture=name,
        )
    equal = [(version, row) for version, row in known if row in named or row.id in ids]
    rows = [row for _, row in equal]
    _record(storage, workspace, dataset, name, rows)
    versions: dict[str, str] = {}
    for version, row in equal:
        if row.split is not None:
            versions[version] = row.split if versions.get(version) != "train" else "train"
    groups = {row.group for row in rows if row.group is not None}
    alike = {row.id for _, row in known if row.group in groups and row.id is not None} - set(ids)
    urls = sorted({row.source_url for row in rows} | ({name} if is_address else set()))
    return Forgotten(ids=ids, urls=urls, versions=versions, alike=sorted(alike))


def _all_rows(storage: Storage, workspace: str, dataset: str) -> Iterator[tuple[str, ManifestRow]]:
    for version in list_versions(storage, workspace, dataset):
        uri = f"{version_uri(workspace, dataset, version)}/manifest.jsonl"
        yield from ((version, row) for row in iterate_manifest(uri, storage))


def _record(storage: Storage, workspace: str, dataset: str, name: str, rows: Iterable[ManifestRow]) -> None:
    by_id: dict[str | None, list[ManifestRow]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(row)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    new = [
        Takedown(
            id=id,
            blobs=sorted({row.blob for row in found if row.blob}),
            urls=sorted({row.source_url for row in found}),
            at=at,
        )
        for id, found in by_id.items()
    ]
    if not new and DIGEST.fullmatch(name):
        new = [Takedown(id=name, blobs=[name], urls=[], at=at)]
    elif not new:
        new = [Takedown(id=None, blobs=[], urls=[name], at=at)]
    old = read_takedowns(storage, workspace, dataset)
    said = {(each.id, tuple(each.blobs), tuple(each.urls)) for each in old}
    new = [each for each in new if (each.id, tuple(each.blobs), tuple(each.urls)) not in said]
    if new:
        write_takedowns([*old, *new], storage, workspace, dataset)
