"""The fetch index: what each entry of a source gave the last time it was read.

One JSONL file a chunk under `datasets/<name>/fetched/`, replaced as a whole when its chunk is done. The first
line holds the source's notes, the others one `FetchedRow` each.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace

from pipeline.storage import Storage
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRow:
    """One fetched picture; the fields are those of `SourceEntry`, `blob` and the time.

    Args:
        blob: SHA-256 of the original bytes; they are `blobs/<blob>`. Empty with a `reason`.
        retrieved_at: When the bytes were read, UTC, ISO 8601.
        attribution: What is to be said of it where it is shown.
        etag: What its server calls this state of the file.
        last_modified: When its server says that the file was made.
        source_type: The `type` of its source.
        network: Whether they came from a place that anyone may write to; stricter rules hold for those.
        reason: Why the source could not give the bytes; None if it did.
    """

    position: int
    label: str
    source_url: str
    validator: str
    blob: str
    retrieved_at: str
    group: str | None = None
    page_url: str | None = None
    creator: str | None = None
    license: str | None = None
    license_url: str | None = None
    attribution: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    source_type: str = ""
    network: bool = False
    reason: str | None = None


_FIELDS = tuple(field.name for field in fields(FetchedRow))


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchIndex:
    """The index of one chunk, or of several put together.

    Args:
        rows: The fetched pictures.
        notes: What the source wrote for its next run.
        statements: What the source found out.
        requests: HTTP requests that reading the source took.
    """

    rows: list[FetchedRow] = field(default_factory=list)
    notes: JsonDict = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    requests: int = 0


def index_uri(workspace: str, dataset: str, chunk: int) -> str:
    """Return the URI of one chunk's index."""
    return f"{workspace}/datasets/{dataset}/fetched/{chunk:05d}.jsonl"


def write_index(
    index: FetchIndex, uri: str, storage: Storage, *, lines: Iterable[bytes] | None = None
) -> None:
    """Replace an index as a whole.

    Args:
        index: Its head and rows.
        uri: Where it goes.
        storage: Writes it.
        lines: The rows, as `format_row` has them, where they are not in the index.
    """
    head = {"notes": index.notes, "statements": index.statements, "requests": index.requests}
    rows = map(format_row, index.rows) if lines is None else lines
    storage.write_bytes(uri, b"".join([json.dumps(head).encode() + b"\n", *rows]))


def format_row(row: FetchedRow) -> bytes:
    """Return a row as its line of an index."""
    values = {name: getattr(row, name) for name in _FIELDS}  # `asdict` copies deeply, and takes most of a row
    return json.dumps(values).encode() + b"\n"


class RowSpool:
    """Rows that come in any order, on the disk until they are written in source order.

    In memory ten thousand of them would take several megabytes, a million half a gigabyte.
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
        self._num_bytes += self._file.write(format_row(row))

    def lines(self) -> Iterator[bytes]:
        """Yield the rows as lines of an index, in source order; no row can be added afterwards."""
        for place in sorted(range(len(self)), key=self._positions.__getitem__):
            self._file.seek(self._offsets[place])
            yield self._file.readline()

    def close(self) -> None:
        """Remove them."""
        self._file.close()


def read_indexes(uris: Iterable[str], storage: Storage) -> FetchIndex:
    """Read several chunks' indexes as one, rows in source order."""
    joined, requests = FetchIndex(), 0
    for uri in uris:
        lines = storage.read_bytes(uri).splitlines()
        head = json.loads(lines[0])
        joined.notes.update(head["notes"])
        joined.statements.extend(head["statements"])
        joined.rows.extend(FetchedRow(**json.loads(line)) for line in lines[1:])
        requests += head.get("requests", 0)
    joined.rows.sort(key=lambda row: row.position)
    return replace(joined, requests=requests)


def iterate_rows(uri: str, storage: Storage) -> Iterator[FetchedRow]:
    """Yield the rows of one chunk's index in source order, one in memory at a time."""
    with storage.local_path(uri).open("rb") as file:
        next(file)
        for line in file:
            yield FetchedRow(**json.loads(line))


def read_previous_index(workspace: str, dataset: str, storage: Storage) -> FetchIndex:
    """Read what the last run of every chunk left; empty before the first."""
    return read_indexes(storage.list_uris(f"{workspace}/datasets/{dataset}/fetched/"), storage)
