"""The manifest of a dataset version: one row for each picture that its sources named.

Rows are read through `Manifest.rows` alone, and the version's id is a digest over named fields, so neither
callers nor ids depend on how the rows are stored.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path

from pipeline.artifacts.codec import build_record
from pipeline.artifacts.fingerprint import FINGERPRINT_KEYS, ImageFingerprint
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.integrity import damaged
from pipeline.artifacts.provenance import PROVENANCE_FIELDS, Provenance
from pipeline.errors import ObjectNotFound, RecordInvalid
from pipeline.pixels.spec import ALL_BITS
from pipeline.types import JsonObject, JsonValue

log = logging.getLogger(__name__)


class RowStatus(StrEnum):
    """Whether a picture is used."""

    KEPT = "kept"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One picture of a dataset version.

    Args:
        blob: SHA-256 of the original bytes; empty where the source could not give them.
        label: Its class.
        position: Its place in source order.
        provenance: Where it comes from, and on which terms.
        retrieved_at: When the bytes were read; not part of the version.
        status: Kept, quarantined or a duplicate.
        fingerprint: Of the decoded picture; None where it cannot be decoded.
        group: Pictures of one group never straddle the split; named by the id of its first-seen member.
        split: `train` or `test`; None unless kept.
        reason: Why it is not kept; None if it is.
        decision: What a person decided about it: `delete`, or `relabel from` its source's label.
        role: `validation` for a training picture that judges each epoch, as its source wants; else None.
    """

    blob: str
    label: str
    position: int
    provenance: Provenance
    retrieved_at: str
    status: RowStatus
    fingerprint: ImageFingerprint | None = None
    group: str | None = None
    split: str | None = None
    reason: str | None = None
    decision: str | None = None
    role: str | None = None

    @property
    def id(self) -> str | None:
        """SHA-256 of the decoded pixels and their shape; None where they cannot be decoded."""
        return None if self.fingerprint is None else self.fingerprint.id

    @property
    def source_url(self) -> str:
        """Where its bytes came from."""
        return self.provenance.source_url

    @property
    def is_kept(self) -> bool:
        """True if the picture trains or tests, or will when the split is made."""
        return self.status is RowStatus.KEPT

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values on one level; a later field has its key only where it has a value."""
        own = {name: getattr(self, name) for name in _OWN_FIELDS}
        own = {name: value for name, value in own.items() if value is not None or name not in LATER_FIELDS}
        decoded = NOT_DECODED if self.fingerprint is None else self.fingerprint.to_dict()
        return {**own, **self.provenance.to_dict(), **decoded}

    @classmethod
    def from_dict(cls, value: JsonObject) -> ManifestRow:
        """Read what `to_dict` wrote."""
        if not value.keys() <= _KEYS:
            raise RecordInvalid(f"a manifest row has unknown fields: {sorted(value.keys() - _KEYS)}.")
        own: dict[str, JsonValue] = {name: value[name] for name in _OWN_FIELDS if name in value}
        return build_record(
            cls,
            own,
            status=RowStatus(str(value["status"])),
            provenance=Provenance.from_dict(value),
            fingerprint=ImageFingerprint.from_dict(value),
        )


NOT_DECODED: dict[str, JsonValue] = dict.fromkeys(FINGERPRINT_KEYS.values())
_OWN_FIELDS = tuple(
    each.name for each in fields(ManifestRow) if each.name not in ("provenance", "fingerprint")
)
COLUMNS = (*_OWN_FIELDS, *PROVENANCE_FIELDS, *NOT_DECODED)
_KEYS = frozenset(COLUMNS)
# What a row that is read in part has in place of the fields that every row must have.
_UNREAD: dict[str, JsonValue] = {
    **{"blob": "", "label": "", "position": -1, "source_url": "", "retrieved_at": ""},
    "status": RowStatus.KEPT,
}
# What a version's id is made of. A field that is added later goes into `LATER_FIELDS`: it enters the digest
# only where a row has it, so that the ids of the versions that are there stay as they are.
DIGEST_FIELDS = (
    *("attribution", "blob", "colour", "creator", "decision", "format", "group", "height", "id", "label"),
    *("license", "license_url", "page_url", "phash", "position", "reason", "sketch", "source_url", "split"),
    *("status", "width"),
)
LATER_FIELDS: tuple[str, ...] = ("role",)


def version_of(rows: Iterable[ManifestRow], classes: Sequence[str], *, bits: int = ALL_BITS) -> str:
    """Return the version's id: a digest of its rows, without the times they were read, and its classes.

    Args:
        rows: Its rows.
        classes: Its classes in order.
        bits: How many bits of 16-bit gray files it uses; part of the digest if not all.
    """
    digest = hashlib.sha256(_canonical(list(classes)))
    if bits != ALL_BITS:
        digest.update(_canonical({"bits": bits}))
    for row in rows:
        value = row.to_dict()
        named = {name: value.get(name) for name in DIGEST_FIELDS}
        later = {name: value[name] for name in LATER_FIELDS if value.get(name) is not None}
        digest.update(_canonical({**named, **later}))
    return f"d_{digest.hexdigest()[:12]}"


def _canonical(value: JsonValue) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def format_manifest(rows: Iterable[ManifestRow]) -> bytes:
    """Return rows as they are stored: JSONL."""
    return b"".join(_canonical(row.to_dict()) for row in rows)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The stored rows of a dataset version.

    Args:
        folder: The version's.
    """

    folder: DatasetVersionFolder

    def rows(self, columns: Collection[str] | None = None) -> Iterator[ManifestRow]:
        """Yield the rows in source order, one in memory at a time.

        Args:
            columns: The fields that the caller uses, by their JSON keys; all by default. Others are empty or
                None in the rows that come.

        Raises:
            ObjectNotFound: if there is no such version.
            DamagedObject: if the file is not the one that was written.
        """
        unknown = set(columns or ()) - _KEYS
        if unknown:
            raise ValueError(f"a manifest has no column {', '.join(sorted(unknown))}")
        path = self.folder.storage.local_path(self.folder.manifest)
        _check_digest(self.folder, path)
        with path.open("rb") as file:
            for line in file:
                yield ManifestRow.from_dict(_select(json.loads(line), columns))

    def write(self, rows: Iterable[ManifestRow]) -> None:
        """Write the rows; the object appears whole."""
        self.folder.storage.write_bytes(self.folder.manifest, format_manifest(rows))


def _check_digest(folder: DatasetVersionFolder, path: Path) -> None:
    """Compare the file with the digest in the version's description, once while it stays as it is."""
    facts = path.stat()
    state = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
    if _CHECKED.get(path) == state or (expected := _described_digest(folder)) is None:
        return
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise damaged(folder.manifest, f"{folder.croissant} has another digest of it")
    _CHECKED[path] = state


def _described_digest(folder: DatasetVersionFolder) -> str | None:
    """Return the digest of the manifest in the version's description; None if there is none to read."""
    try:
        return str(folder.storage.read_json(folder.croissant)["distribution"][0]["sha256"])
    except ObjectNotFound:
        return None
    except (ValueError, LookupError, TypeError) as error:
        log.error("%s is damaged, so %s is not checked: %r", folder.croissant, folder.manifest, error)
        return None


_CHECKED: dict[Path, tuple[int, int, int]] = {}


def _select(value: JsonObject, columns: Collection[str] | None) -> JsonObject:
    if columns is None:
        return value
    return {**_UNREAD, **{name: value[name] for name in columns if name in value}}
