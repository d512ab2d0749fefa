"""The fetch index: what each entry of a source gave the last time it was read.

One JSONL file for each chunk, replaced as a whole when its chunk is done. The first line is the head, the
others are one `FetchedRow` each.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from heapq import merge

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.artifacts.folders import DatasetFolder
from pipeline.artifacts.provenance import PROVENANCE_FIELDS, Provenance
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

FORMAT = 1
TRAIN_ONLY = "train_only"  # of a picture that may not test, however the dataset is split


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRow:
    """One fetched picture.

    Args:
        position: Its place in source order, over all sources and chunks.
        label: Its class.
        provenance: Where it comes from, and on which terms.
        validator: Changes when the bytes may have changed, as its source says.
        blob: SHA-256 of the original bytes; they are `blobs/<blob>`. Empty with a `reason`.
        retrieved_at: When the bytes were read, UTC, ISO 8601.
        group: Pictures that must not straddle the split share one; None where the source knows of none.
        given_split: The part of the source's own split: `train`, `validation` or `test`; None without one.
            `train_only` if the picture may not test, however the dataset is split.
        etag: The server's ETag for this state of the file.
        last_modified: When the file was made, according to its server.
        source_type: The `type` of its source.
        network: True if the bytes came from a place that anyone may write to: stricter filters hold.
        reason: Why the source could not give the bytes; None if it did.
        levels: The highest level of a file of 16-bit levels, of 65535; None for other files.
    """

    position: int
    label: str
    provenance: Provenance
    validator: str
    blob: str
    retrieved_at: str
    group: str | None = None
    given_split: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    source_type: str = ""
    network: bool = False
    reason: str | None = None
    levels: int | None = None

    @property
    def source_url(self) -> str:
        """Where its bytes are."""
        return self.provenance.source_url

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values on one level."""
        # `asdict` copies deeply, which takes most of a row's time.
        return {**{name: getattr(self, name) for name in _OWN_FIELDS}, **self.provenance.to_dict()}

    @classmethod
    def from_dict(cls, value: JsonObject) -> FetchedRow:
        """Read what `to_dict` wrote."""
        own = {name: value[name] for name in value if name not in PROVENANCE_FIELDS}
        return build_record(cls, own, provenance=Provenance.from_dict(value))


_OWN_FIELDS = tuple(each.name for each in fields(FetchedRow) if each.name != "provenance")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchHead:
    """What a chunk, or several together, have to say besides their rows.

    Args:
        notes: What each source wrote for its next run, by its number in the dataset.
        statements: What the sources want a reader of the dataset card to know.
        requests: HTTP requests that reading the sources took.
        converted: Files that this run converted to PNG, by what they were.
    """

    notes: Mapping[str, JsonObject] = field(default_factory=dict)
    statements: Sequence[str] = ()
    requests: int = 0
    converted: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values."""
        return {
            "format": FORMAT,
            "notes": self.notes,
            "statements": list(self.statements),
            "requests": self.requests,
            "converted": dict(self.converted),
        }

    @classmethod
    def from_dict(cls, value: JsonObject) -> FetchHead:
        """Read what `to_dict` wrote."""
        return build_record(cls, strip_format(value, FORMAT, cls))


@dataclass(frozen=True, slots=True)
class FetchIndex:
    """The stored indexes of one chunk, or of several put together.

    Args:
        storage: Where they are.
        uris: The chunks'.
    """

    storage: Storage
    uris: Sequence[str]

    @classmethod
    def of_last_run(cls, dataset: DatasetFolder) -> FetchIndex:
        """Return what the last run of every chunk left; empty before the first."""
        return cls(dataset.storage, dataset.storage.list_uris(dataset.fetch_indexes))

    def head(self) -> FetchHead:
        """Read the heads as one."""
        notes: dict[str, JsonObject] = {}
        statements: list[str] = []
        requests = 0
        converted: Counter[str] = Counter()
        for uri in self.uris:
            with self.storage.local_path(uri).open("rb") as file:
                head = FetchHead.from_dict(as_object(json.loads(next(file))))
            notes.update(head.notes)
            statements.extend(head.statements)
            requests += head.requests
            converted.update(head.converted)
        return FetchHead(notes=notes, statements=statements, requests=requests, converted=converted)

    def rows(self) -> Iterator[FetchedRow]:
        """Yield the rows in source order, one of each chunk in memory at a time."""
        return merge(*map(self._chunk_rows, self.uris), key=lambda row: row.position)

    def _chunk_rows(self, uri: str) -> Iterator[FetchedRow]:
        with self.storage.local_path(uri).open("rb") as file:
            next(file)
            for line in file:
                yield FetchedRow.from_dict(json.loads(line))


class RowSpool:
    """Rows of a chunk in the order they come, on the disk: a row takes twenty bytes of memory.

    In memory a row takes half a kilobyte, a million of them half a gigabyte.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._positions = array("q")
        self._offsets = array("q")
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, row: FetchedRow) -> None:
        """Keep a row."""
        self._positions.append(row.position)
        self._offsets.append(self._num_bytes)  # `tell` is a system call
        self._num_bytes += self._file.write(json.dumps(row.to_dict()).encode() + b"\n")

    def lines(self) -> Iterator[bytes]:
        """Yield the rows as lines of an index, in source order; no row can be added afterwards."""
        for place in sorted(range(len(self)), key=self._positions.__getitem__):
            self._file.seek(self._offsets[place])
            yield self._file.readline()

    def close(self) -> None:
        """Remove them."""
        self._file.close()


def write_index(storage: Storage, uri: str, head: FetchHead, rows: RowSpool) -> None:
    """Replace the index of a chunk as a whole."""
    first = json.dumps(head.to_dict()).encode() + b"\n"
    storage.write_bytes(uri, b"".join([first, *rows.lines()]))
