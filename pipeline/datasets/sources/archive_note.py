"""What is remembered of an archive, and what one reading of it gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.artifacts.codec import as_object, build_record
from pipeline.datasets.fetcher import Validators
from pipeline.datasets.sources.layout import EXAMPLES
from pipeline.datasets.sources.list_names import MAX_TABLES, is_list, may_be_table
from pipeline.datasets.sources.split_file_rows import may_be_split_file
from pipeline.types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveNote:
    """The list of an archive's members, so that an unchanged one is not opened again.

    Args:
        uri: The archive.
        validators: Of the file when it was read.
        sha256: Of its bytes.
        members: Name, proof and refusal of each member; the refusal is empty for a good one.
        labels: Labels by name, from its lists of labels; None without one.
        splits: Parts of a split by name, from its lists and split files.
        statements: What its lists had to say.
        left_out: System files, which are no members here, by their kind.
        settings: The source's section and the release's rules, which decide how names and lists are read.
    """

    uri: str
    settings: str
    validators: Validators
    sha256: str
    members: Sequence[tuple[str, str, str]]
    labels: Mapping[str, str] | None
    splits: Mapping[str, str]
    statements: Sequence[str]
    left_out: Mapping[str, int]

    @classmethod
    def from_dict(cls, value: JsonObject) -> ArchiveNote | None:
        """Read what `asdict` wrote; None for the note of an earlier release, which held less."""
        if "settings" not in value:
            return None
        validators = build_record(Validators, as_object(value["validators"]))
        note = build_record(cls, value, validators=validators)
        return replace(note, members=[(name, proof, reason) for name, proof, reason in note.members])


@dataclass(slots=True, kw_only=True)
class ArchiveListing:
    """What one reading of an archive gives.

    Args:
        members: Name, proof and refusal of each member.
        lists: The lists of labels and split files among them, by name.
        raw_names: Bytes of the names whose encoding the archive does not tell.
        left_out: System files, by their kind.
        list_bytes: Size of the lists together.
    """

    members: list[tuple[str, str, str]] = field(default_factory=list)
    lists: dict[str, bytes] = field(default_factory=dict)
    raw_names: list[bytes] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    list_bytes: int = 0


def is_read(name: str, listing: ArchiveListing) -> bool:
    """Return True for lists, split files, and some of the tables that may be lists."""
    if is_list(name) or may_be_split_file(name):
        return True
    tables = sum(may_be_table(other) and not is_list(other) for other in listing.lists)
    return may_be_table(name) and tables <= MAX_TABLES


def describe_members(note: ArchiveNote) -> str:
    """Return what the archive has instead, for the message that nothing can be used."""
    reasons = Counter(reason for _, _, reason in note.members if reason)
    counts = [f"{count} refused as {reason}" for reason, count in sorted(reasons.items())]
    counts += [f"{count} {kind}" for kind, count in sorted(note.left_out.items())]
    examples = ", ".join(repr(name[:80]) for name, _, _ in note.members[:EXAMPLES])
    return (
        f" Received: {len(note.members)} members ({', '.join(counts) or 'none refused'}), such as {examples}."
    )
