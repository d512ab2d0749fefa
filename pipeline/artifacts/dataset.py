"""A dataset version: a row for every picture that was found, and what the version as a whole is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ObjectNotFound
from pipeline.storage import Storage
from pipeline.types import JsonDict


class RowStatus(StrEnum):
    """What became of a picture."""

    KEPT = "kept"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One picture of a dataset version.

    Args:
        id: SHA-256 of the decoded pixels and their shape; None where they cannot be decoded.
        blob: SHA-256 of the original bytes; empty where the source could not give them.
        label: Its class.
        position: Its place in source order.
        source_url: Where the bytes came from.
        page_url: The page that shows the picture to people.
        creator: Who made it.
        license: Name of its licence.
        license_url: Where the licence is to be read.
        attribution: What is to be said of it where it is shown, as its source words it.
        retrieved_at: When the bytes were read; not part of the version.
        width: Columns of the decoded picture, upright.
        height: Rows of the decoded picture, upright.
        format: JPEG, PNG, GIF or WEBP.
        phash: 256-bit perceptual hash, hex; None for a picture too flat to have one.
        colour: Mean RGB of the four quarters, hex: near duplicates agree in it too.
        sketch: 24 x 24 gray levels, base64: shows whether a picture is a crop of another.
        group: Pictures of one group never straddle the split; named by the id of its first-seen member.
        split: `train` or `test`; None unless kept.
        status: Kept, quarantined or a duplicate.
        reason: Why it is not kept; None if it is.
        decision: What a person decided about it: `delete`, or `relabel from` its source's label.
    """

    blob: str
    label: str
    position: int
    source_url: str
    retrieved_at: str
    status: RowStatus
    id: str | None = None
    page_url: str | None = None
    creator: str | None = None
    license: str | None = None
    license_url: str | None = None
    attribution: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    phash: str | None = None
    colour: str | None = None
    sketch: str | None = None
    group: str | None = None
    split: str | None = None
    reason: str | None = None
    decision: str | None = None

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {**asdict(self), "status": self.status.value}

    @classmethod
    def from_dict(cls, value: JsonDict) -> ManifestRow:
        """Read what `to_dict` wrote."""
        return cls(**{**value, "status": RowStatus(value["status"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A dataset version as a whole: `dataset.json`.

    Args:
        dataset: The classifier's name.
        version: Digest of the rows and the classes.
        classes: The label of class 0, of class 1, and so on.
        pictures: Kept pictures by class.
        train: Training pictures by class.
        test: Test pictures by class.
        rejected: Pictures that were not kept, by reason.
        source: The `source` section of the classifier.
        split: The `split` section of the classifier.
        run_id: The run that made the version.
        created_at: When, UTC.
        warnings: What a user should know about it.
        found: Pictures that the source named, kept or not.
        licenses: Kept pictures by licence.
        mix: Kept pictures by where they came from.
        requests: HTTP requests that the run took to read the source.
        previous: The version that the data gate compared it with.
        expect: What the data gate said in the run that made the version.
    """

    dataset: str
    version: str
    classes: list[str]
    pictures: dict[str, int]
    train: dict[str, int]
    test: dict[str, int]
    rejected: dict[str, int]
    source: dict[str, Any]
    split: dict[str, Any]
    run_id: str
    created_at: str
    warnings: list[str] = field(default_factory=list)
    found: int = 0
    licenses: dict[str, int] = field(default_factory=dict)
    mix: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    previous: str | None = None
    expect: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: JsonDict) -> DatasetInfo:
        """Read what `to_dict` wrote; counts come in the order of the classes again."""
        ordered = {
            side: {label: value[side][label] for label in value["classes"]}
            for side in ("pictures", "train", "test")
        }
        return cls(**{**value, **ordered})


def version_of(rows: Iterable[ManifestRow], classes: Sequence[str]) -> str:
    """Return the version's id: a digest of its rows, without the times they were read, and its classes."""
    digest = hashlib.sha256(_canonical(list(classes)))
    for row in rows:
        value = row.to_dict()
        del value["retrieved_at"]
        digest.update(_canonical(value))
    return f"d_{digest.hexdigest()[:12]}"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def version_uri(workspace: str, dataset: str, version: str) -> str:
    """Return the folder of a dataset version."""
    return f"{workspace}/datasets/{dataset}/{version}"


def format_manifest(rows: Iterable[ManifestRow]) -> bytes:
    """Return rows as JSONL."""
    return b"".join(_canonical(row.to_dict()) for row in rows)


def write_manifest(rows: Iterable[ManifestRow], uri: str, storage: Storage) -> None:
    """Write rows as JSONL; the file appears whole."""
    storage.write_bytes(uri, format_manifest(rows))


def iterate_manifest(uri: str, storage: Storage) -> Iterator[ManifestRow]:
    """Read rows one at a time."""
    with storage.local_path(uri).open("rb") as file:
        for line in file:
            yield ManifestRow.from_dict(json.loads(line))


def read_manifest(storage: Storage, workspace: str, dataset: str, version: str) -> list[ManifestRow]:
    """Read all rows of a dataset version, in source order."""
    return list(iterate_manifest(f"{version_uri(workspace, dataset, version)}/manifest.jsonl", storage))


def read_dataset_info(storage: Storage, workspace: str, dataset: str, version: str) -> DatasetInfo:
    """Read what a dataset version is as a whole."""
    return DatasetInfo.from_dict(
        storage.read_json(f"{version_uri(workspace, dataset, version)}/dataset.json")
    )


def read_latest_version(storage: Storage, workspace: str, dataset: str) -> str | None:
    """Return the last version that the data gate let through, None before the first."""
    return _read_latest(storage, workspace, dataset).get("version")


def read_held_version(storage: Storage, workspace: str, dataset: str) -> str | None:
    """Return the version that the data gate held back since the latest, None if there is none."""
    return _read_latest(storage, workspace, dataset).get("held")


def _read_latest(storage: Storage, workspace: str, dataset: str) -> dict[str, str]:
    try:
        latest: dict[str, str] = storage.read_json(f"{workspace}/datasets/{dataset}/latest.json")
    except ObjectNotFound:
        return {}
    return latest


def write_latest_version(
    storage: Storage, workspace: str, dataset: str, version: str, *, held: bool = False
) -> None:
    """Let `latest.json` name a version as the latest, or as held back beside the latest."""
    old = _read_latest(storage, workspace, dataset)
    new = {**old, "held": version} if held else {"version": version}
    if new != old:
        storage.write_json(f"{workspace}/datasets/{dataset}/latest.json", new)


def list_versions(storage: Storage, workspace: str, dataset: str) -> list[str]:
    """Return the finished versions of a dataset, oldest first."""
    found = []
    for uri in storage.list_uris(f"{workspace}/datasets/{dataset}/"):
        if uri.endswith("/dataset.json"):
            found.append((storage.read_json(uri)["created_at"], uri.split("/")[-2]))
    return [version for _, version in sorted(found)]


def source_of(row: ManifestRow) -> str:
    """Return where a picture comes from: a host, a bucket, or the kind of address without one."""
    parts = urlsplit(row.source_url)
    return parts.netloc.rpartition("@")[2] or parts.scheme
