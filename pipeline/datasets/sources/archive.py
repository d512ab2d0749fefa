"""A zip, tar or tar.gz: a folder per class, or a `labels.csv` with the columns `file,label`."""

from __future__ import annotations

import csv
import hashlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from pipeline.artifacts.codec import as_object, build_record
from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import ArchiveSection
from pipeline.datasets.fetcher import Validators, download_if_changed, public_url
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.sources.archive_members import Member, open_members
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import (
    BadArchive,
    EmptyDataset,
    FetchRefused,
    ObjectNotFound,
    SourceNotFound,
    StorageError,
)
from pipeline.types import JsonObject

log = logging.getLogger(__name__)

LABELS_FILE = "labels.csv"
FILE_COLUMNS = ("file", "filename", "path", "image")
MAX_LABELS_BYTES = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """What is remembered of an archive, so that an unchanged one is not opened again."""

    uri: str
    validators: Validators
    sha256: str
    members: list[tuple[str, str, str, str]]  # name, proof, label, reason

    @classmethod
    def from_dict(cls, value: JsonObject) -> _Note:
        validators = build_record(Validators, as_object(value["validators"]))
        note = build_record(cls, value, validators=validators)
        return replace(
            note, members=[(name, proof, label, reason) for name, proof, label, reason in note.members]
        )


class ArchiveSource:
    """The pictures of one archive, all in the first chunk: it is one file.

    Args:
        section: The source's section.
        context: Storage, policy, and the notes of the last run.
    """

    def __init__(self, section: ArchiveSection, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._section = section
        self._context = context
        self._origin = public_url(section.uri)
        note = (
            _Note.from_dict(as_object(context.previous["archive"])) if "archive" in context.previous else None
        )
        self._previous = note if note and note.uri == self._origin else None

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every picture in the archive's order; what is refused comes with its reason.

        Raises:
            SourceNotFound: if there is no such archive.
            BadArchive: if it is none, or passes a limit.
            EmptyDataset: if it has no class.
        """
        if chunk:
            return
        with self._opened() as (file, validators):
            if file is not None:
                self.transferred += 1
            else:
                log.info("%s is unchanged; it was not read again", self._origin)
            note = self._previous if file is None else self._inspect(file, validators)
            if note is None:
                return
            self.notes = {"archive": asdict(note)}
            yield from self._entries(note, file)

    def _entries(self, note: _Note, file: BinaryIO | None) -> Iterator[SourceEntry]:
        members = iter(()) if file is None else open_members(file, origin=self._origin)
        place = self._origin if urlsplit(self._origin).scheme else Path(self._origin).expanduser().as_uri()
        wanted = self._wanted_labels(note)
        for position, (name, proof, label, reason) in enumerate(note.members):
            member = next(members, None)
            if label not in wanted and not reason:
                continue  # loose files, and classes that were not asked for
            yield SourceEntry(
                position=position,
                label=label if label in wanted else "",
                provenance=Provenance(source_url=f"{place}#{quote(name, errors='replace')}"),
                validator=proof or f"sha256 {note.sha256}",
                read=lambda member=member, name=name: self._read(member, name),  # type: ignore[misc]
                refused=FetchReason(reason) if reason else None,
            )

    def _wanted_labels(self, note: _Note) -> set[str]:
        labels = {label for _, _, label, reason in note.members if label and not reason}
        wanted = set(self._section.declared_classes or labels)
        missing = wanted - labels
        if missing or not labels or (self._context.is_alone and len(labels) < 2):
            raise EmptyDataset(
                f"{self._origin} has pictures of {', '.join(sorted(labels)) or 'no class'}"
                + (f", none of {', '.join(sorted(missing))}" if missing else "")
                + f"; it needs a folder for each class, or a `{LABELS_FILE}` with the columns `file,label`.",
                classes=sorted(missing),
            )
        return wanted

    def _read(self, member: Member | None, name: str) -> bytes:
        if member is None:
            raise StorageError(
                f"the picture {name[:100]!r} of {self._origin} is no longer in the bucket; fetch again.",
                name=name,
            )
        return member.read()

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO | None, Validators]]:
        """Give the open file, None if it has not changed."""
        uri, last = self._section.uri, None if self._previous is None else self._previous.validators
        if urlsplit(uri).scheme in ("http", "https"):
            with tempfile.TemporaryFile() as file:
                new = download_if_changed(uri, file, validators=last, policy=self._context.policy)
                yield (None, last or Validators()) if new is None else (file, new)
            return
        try:
            path = self._context.storage.local_path(uri)
            local = path.open("rb")
        except (ObjectNotFound, OSError) as error:
            raise SourceNotFound(
                f"there is no archive {uri}; correct `dataset.source.uri`, which needs a zip, tar or tar.gz.",
                uri=uri,
            ) from error
        with local:
            facts = path.stat()
            now = Validators(last_modified=f"{facts.st_mtime_ns} ns", length=facts.st_size)
            yield (None if last is not None and now.same_file_as(last) else local), now

    def _inspect(self, file: BinaryIO, validators: Validators) -> _Note:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        names: list[tuple[str, str, str]] = []
        labels: dict[str, str] | None = None
        for member in open_members(file, origin=self._origin):
            names.append((member.name, member.proof, str(member.refused or "")))
            if member.refused is None and member.name.rpartition("/")[2].lower() == LABELS_FILE:
                labels = self._read_labels(member)
        root = _common_root([name for name, _, reason in names if not reason])
        members = [(name, proof, *self._place(name, reason, root, labels)) for name, proof, reason in names]
        return _Note(uri=self._origin, validators=validators, sha256=digest, members=members)

    def _place(self, name: str, reason: str, root: str, labels: dict[str, str] | None) -> tuple[str, str]:
        """Return a member's label and why it is refused; neither for one that is no picture."""
        inner = name.removeprefix(root)
        folder, _, _ = inner.partition("/") if "/" in inner else ("", "", "")
        if reason:
            return folder, reason
        if inner.rpartition("/")[2].lower() == LABELS_FILE:
            return "", ""
        if self._section.label is not None:
            return self._section.label, ""
        if labels is None:
            return folder, ""
        label = labels.get(inner) or labels.get(name) or ""
        return (label, "") if label else ("", str(FetchReason.MEMBER_UNLABELLED))

    def _read_labels(self, member: Member) -> dict[str, str]:
        try:
            data = member.read()
        except FetchRefused as error:
            raise BadArchive(f"{self._origin}: `{LABELS_FILE}` cannot be read: {error.message}") from error
        if len(data) > MAX_LABELS_BYTES:
            raise BadArchive(f"{self._origin}: `{LABELS_FILE}` has more than {MAX_LABELS_BYTES} bytes.")
        try:
            rows = csv.DictReader(data.decode("utf-8-sig", "replace").replace("\0", "").splitlines())
            columns = {name.strip().lower(): name for name in rows.fieldnames or [] if name}
            file = next((columns[name] for name in FILE_COLUMNS if name in columns), None)
            if file is None or "label" not in columns:
                raise BadArchive(
                    f"{self._origin}: `{LABELS_FILE}` needs the columns `file,label`. "
                    f"Received: {list(columns)}"
                )
            label = columns["label"]
            return {(row[file] or "").strip(): (row[label] or "").strip() for row in rows}
        except csv.Error as error:
            raise BadArchive(f"{self._origin}: `{LABELS_FILE}` is no CSV: {error}.") from error


def _common_root(names: list[str]) -> str:
    """Return the one folder that holds everything, if there are folders in it."""
    tops = {name.partition("/")[0] for name in names}
    has_more = any(
        name.count("/") >= 2 or name.count("/") == 1 and name.lower().endswith("/" + LABELS_FILE)
        for name in names
    )
    return f"{tops.pop()}/" if len(tops) == 1 and has_more else ""
