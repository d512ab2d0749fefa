"""A zip or tar: a folder per class, or a `labels.csv` with the columns `file,label`."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from pipeline.artifacts.codec import as_object
from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import ArchiveSection
from pipeline.datasets.fetcher import Validators, download_if_changed, public_url
from pipeline.datasets.fetcher.reasons import FetchReason
from pipeline.datasets.sources.archive_members import Member, open_members
from pipeline.datasets.sources.archive_note import (
    ArchiveListing,
    ArchiveNote,
    describe_members,
    is_read,
)
from pipeline.datasets.sources.label_list import Labels, ListOptions, lay_out_labels
from pipeline.datasets.sources.layout import LaidOutFile, Layout, lay_out
from pipeline.datasets.sources.list_choice import choose_labels
from pipeline.datasets.sources.list_names import is_list
from pipeline.datasets.sources.member_names import guess_encoding
from pipeline.datasets.sources.name_pattern import (
    TEACHABLE_MACHINE,
    is_teachable_machine,
    lay_out_by_name,
    suggest_pattern,
)
from pipeline.datasets.sources.records import refuse_records, suggest_boxes
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.datasets.sources.split_file_rows import find_split_files, may_be_split_file
from pipeline.datasets.sources.split_files import read_split_files
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
LIST_RULES = 4  # raise it when lists are read in another way, so that unchanged archives are read again
MAX_LIST_BYTES = 256 * 2**20  # of all annotations together


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
        previous = as_object(context.previous.get("archive"))
        note = ArchiveNote.from_dict(previous) if previous else None
        self._unused_lists: list[str] = []
        settings = section.model_dump_json(exclude={"uri"}, exclude_none=True)
        self._settings = f"{LIST_RULES} {settings}"
        is_current = note is not None and (note.uri, note.settings) == (self._origin, self._settings)
        self._previous = note if is_current else None

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

    def _entries(self, note: ArchiveNote, file: BinaryIO | None) -> Iterator[SourceEntry]:
        members = iter(()) if file is None else open_members(file, origin=self._origin)
        place = self._origin if urlsplit(self._origin).scheme else Path(self._origin).expanduser().as_uri()
        layout = self._lay_out(note)
        by_name = {each.name: each for each in layout.files}
        wanted = self._wanted_labels(note, {each.label for each in layout.files})
        self.statements += [*layout.statements, *layout.describe_unwanted(wanted)]
        for position, (name, proof, reason) in enumerate(note.members):
            member, placed = next(members, None), by_name.get(name)
            reason = reason or self._refuse_unlabelled(note, name, placed)
            label = placed.label if placed is not None and placed.label in wanted else ""
            if not label and not reason:
                continue  # loose files, and classes that were not asked for
            yield SourceEntry(
                position=position,
                label=label,
                provenance=Provenance(source_url=f"{place}#{quote(name, errors='replace')}"),
                validator=proof or f"sha256 {note.sha256}",
                read=lambda member=member, name=name: self._read(member, name),  # type: ignore[misc]
                refused=FetchReason(reason) if reason else None,
                split=placed.split if placed is not None and label else None,
            )

    def _lay_out(self, note: ArchiveNote) -> Layout:
        """Return the class of each member: by the section, the list of labels, or the class folders."""
        names = [name for name, _, reason in note.members if reason != FetchReason.BAD_MEMBER_NAME]
        refuse_records(names, self._origin)
        split_files = set(find_split_files(names))
        names = [name for name in names if name not in split_files]
        pattern = self._section.label_pattern
        if pattern is None and is_teachable_machine(names):
            pattern = TEACHABLE_MACHINE.pattern
        if self._section.label is None and pattern is not None:
            layout = lay_out_by_name(names, re.compile(pattern))
        elif self._section.label is None and note.labels is None:
            layout = lay_out(names, classes=self._section.classes, origin=self._origin)
        elif self._section.label is not None:
            files = [LaidOutFile(name=name, label=self._section.label) for name in names]
            layout = Layout(files=[file for file in files if not is_list(file.name)])
        else:
            labels = Labels(labels=dict(note.labels or {}), splits=dict(note.splits))
            # Those without a label are refused one by one.
            layout = lay_out_labels((name for name in names if name in labels.labels), labels)
        layout.put_into_parts(note.splits)
        layout.notes += note.statements
        layout.left_out.update(note.left_out)
        return layout

    def _refuse_unlabelled(self, note: ArchiveNote, name: str, placed: LaidOutFile | None) -> str:
        has_text = is_list(name) or may_be_split_file(name)
        is_unlabelled = note.labels is not None and placed is None and not has_text
        return str(FetchReason.MEMBER_UNLABELLED) if is_unlabelled else ""

    def _wanted_labels(self, note: ArchiveNote, labels: Collection[str]) -> set[str]:
        wanted = set(self._section.declared_classes or labels)
        missing = wanted - set(labels)
        names = [name for name, _, _ in note.members]
        if missing or not labels or (self._context.is_alone and len(labels) < 2):
            raise EmptyDataset(
                f"{self._origin} has pictures of {', '.join(sorted(labels)) or 'no class'}"
                + (f", none of {', '.join(sorted(missing))}" if missing else "")
                + f"; it needs a folder for each class, or a `{LABELS_FILE}` with the columns `file,label`."
                + describe_members(note)
                + " ".join([suggest_pattern(names), suggest_boxes(names), *self._unused_lists]),
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

    def _inspect(self, file: BinaryIO, validators: Validators) -> ArchiveNote:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        listing = self._list(file, self._section.encoding)
        encoding = None if self._section.encoding else guess_encoding(listing.raw_names)
        if encoding is not None:
            listing = self._list(file, encoding.encoding)
        members, lists, left_out = listing.members, listing.lists, listing.left_out
        labels = self._read_labels([name for name, _, reason in members if not reason], lists)
        statements = [] if encoding is None else [encoding.describe(self._origin)]
        note = ArchiveNote(
            uri=self._origin,
            settings=self._settings,
            validators=validators,
            sha256=digest,
            members=members,
            labels=None if labels is None else labels.labels,
            splits={} if labels is None else labels.splits,
            statements=[*statements, *(self._unused_lists if labels is None else labels.statements)],
            left_out=dict(left_out),
        )
        return self._add_split_files(note, lists)

    def _add_split_files(self, note: ArchiveNote, lists: Mapping[str, bytes]) -> ArchiveNote:
        """Return a note with the parts that split files among the members tell."""
        if not (split_files := find_split_files(lists)):
            return note
        parts = read_split_files(split_files, lists.__getitem__, self._lay_out(note).files, self._origin)
        return replace(
            note,
            splits={**note.splits, **parts.splits},
            statements=[*note.statements, *parts.statements],
        )

    def _list(self, file: BinaryIO, encoding: str | None) -> ArchiveListing:
        """Read the archive once: its members, and the lists among them."""
        listing = ArchiveListing()
        members = open_members(file, origin=self._origin, encoding=encoding, left_out=listing.left_out)
        for member in members:
            listing.members.append((member.name, member.proof, str(member.refused or "")))
            if member.raw_name:
                listing.raw_names.append(member.raw_name)
            if member.refused is None and is_read(member.name, listing):
                listing.lists[member.name] = self._read_list(member)
                listing.list_bytes += len(listing.lists[member.name])
                if listing.list_bytes > MAX_LIST_BYTES:
                    raise BadArchive(f"{self._origin} has lists of more than {MAX_LIST_BYTES:,} bytes.")
        return listing

    def _read_labels(self, names: Sequence[str], lists: Mapping[str, bytes]) -> Labels | None:
        """Return the labels of its lists; None if it has none, or class folders tell the classes."""
        if self._section.label_pattern:
            return None
        try:
            return choose_labels(
                names,
                lambda name: lists.get(name, b""),
                classes=self._section.classes,
                options=ListOptions(
                    columns=self._section.columns, label_from=self._section.label_from or "largest"
                ),
                origin=self._origin,
                unused=self._unused_lists,
            )
        except SourceNotFound as error:
            raise BadArchive(
                f"{self._origin}: its list needs the columns `file,label`: {error}", uri=self._origin
            ) from error

    def _read_list(self, member: Member) -> bytes:
        try:
            return member.read()
        except FetchRefused as error:
            raise BadArchive(f"{self._origin}: `{member.name}` cannot be read: {error.message}") from error
