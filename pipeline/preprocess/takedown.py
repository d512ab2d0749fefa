"""Forgetting a picture: from the next version on it is in none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.artifacts.dataset import list_versions
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.takedowns import Takedown, read_takedowns, write_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.preprocess.decisions import names_picture

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


def forget_picture(workspace: Workspace, dataset: str, name: str) -> Forgotten:
    """Take a picture down; what is equal to it in pixels, bytes or address is kept out as well.

    Versions that are there stay as they are: models were made from them.

    Args:
        workspace: Where versions are.
        dataset: The classifier's name.
        name: Id or digest of the file (eight characters or more), or an address.

    Raises:
        ConfigError: if the name fits no picture, or several different ones by their first characters.
    """
    folder = workspace.dataset(dataset)
    _take_down(folder, dataset, name, list(_all_rows(folder)))
    # Read again, for a run may have published a version meanwhile; one that does so later heeds the takedown.
    rows = list(_all_rows(folder))
    return _what_it_reaches(name, rows, _equal_rows(name, rows))


def _equal_rows(name: str, everything: Sequence[tuple[str, ManifestRow]]) -> list[tuple[str, ManifestRow]]:
    """Return the rows that a name means, and those of the same pictures."""
    named = [row for _, row in everything if names_picture(name, row)]
    ids = {row.id for row in named if row.id is not None}
    return [(version, row) for version, row in everything if row in named or row.id in ids]


def _take_down(
    folder: DatasetFolder, dataset: str, name: str, everything: Sequence[tuple[str, ManifestRow]]
) -> None:
    named = [row for _, row in everything if names_picture(name, row)]
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
    _record(folder, name, [row for _, row in _equal_rows(name, everything)])


def _what_it_reaches(
    name: str, everything: Sequence[tuple[str, ManifestRow]], equal: Sequence[tuple[str, ManifestRow]]
) -> Forgotten:
    rows = [row for _, row in equal]
    ids = sorted({row.id for row in rows if row.id is not None})
    versions: dict[str, str] = {}
    for version, row in equal:
        if row.split is not None:
            versions[version] = row.split if versions.get(version) != "train" else "train"
    groups = {row.group for row in rows if row.group is not None}
    alike = {row.id for _, row in everything if row.group in groups and row.id is not None} - set(ids)
    urls = sorted({row.source_url for row in rows} | ({name} if "://" in name else set()))
    return Forgotten(ids=ids, urls=urls, versions=versions, alike=sorted(alike))


def _all_rows(dataset: DatasetFolder) -> Iterator[tuple[str, ManifestRow]]:
    columns = ("id", "blob", "source_url", "page_url", "group", "split")
    for version in list_versions(dataset):
        yield from ((version, row) for row in Manifest(dataset.version(version)).rows(columns))


def _record(dataset: DatasetFolder, name: str, rows: Iterable[ManifestRow]) -> None:
    by_id: dict[str | None, list[ManifestRow]] = {}
    for row in rows:
        by_id.setdefault(row.id, []).append(row)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    new = [
        Takedown(
            id=id,
            blobs=sorted({row.blob for row in equal if row.blob}),
            urls=sorted({row.source_url for row in equal}),
            at=at,
        )
        for id, equal in by_id.items()
    ]
    if not new and DIGEST.fullmatch(name):
        new = [Takedown(id=name, blobs=[name], urls=[], at=at)]
    elif not new:
        new = [Takedown(id=None, blobs=[], urls=[name], at=at)]
    old = read_takedowns(dataset)
    listed = {(each.id, tuple(each.blobs), tuple(each.urls)) for each in old}
    new = [each for each in new if (each.id, tuple(each.blobs), tuple(each.urls)) not in listed]
    if new:
        write_takedowns(dataset, [*old, *new])
