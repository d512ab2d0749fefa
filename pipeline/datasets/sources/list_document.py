"""Lists that are one JSON document, told from those with one object a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import BinaryIO

from pipeline.config.sources import LabelFrom, ListColumns
from pipeline.datasets.sources.annotations import Annotations, read_document
from pipeline.datasets.sources.list_columns import FILE_COLUMNS
from pipeline.errors import SourceNotFound
from pipeline.types import JsonObject, JsonValue

MAX_LINE = 8192  # characters
MAX_JSON_BYTES = 64 * 2**20


def open_document(
    file: BinaryIO, origin: str, columns: ListColumns, label_from: LabelFrom
) -> Annotations | None:
    """Return the pictures of a JSON document; None for a table, or for JSON with one object a line.

    Raises:
        SourceNotFound: if it is damaged, too large, or of another shape.
    """
    start = file.read(MAX_LINE).removeprefix(codecs.BOM_UTF8).lstrip()
    file.seek(0)
    if start.startswith(b"{"):
        if _has_objects(start, columns):
            return None
    elif not start.startswith(b"["):
        return None
    data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise _error(origin, f"is a JSON document of more than {MAX_JSON_BYTES:,} bytes")
    try:
        value = json.loads(data, object_pairs_hook=read_unique)
        return read_document(value, origin, columns, label_from)
    except (ValueError, RecursionError) as error:
        raise _error(origin, f"is no JSON: {error}") from error


def _has_objects(start: bytes, columns: ListColumns) -> bool:
    """Return True if the first line is an object by itself, of a picture or with others below it."""
    line, _, rest = start.partition(b"\n")
    try:
        names = {name.lower() for name in json.loads(line)}
    except (ValueError, RecursionError):
        return False
    return rest.lstrip().startswith(b"{") or bool(names & {*FILE_COLUMNS, (columns.file or "").lower()})


def read_unique(pairs: Sequence[tuple[str, JsonValue]]) -> JsonObject:
    """Return a JSON object; JSON itself would let the last of several equal names win.

    Raises:
        ValueError: if a name occurs twice.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r} twice")
    return value


def _error(origin: str, text: str) -> SourceNotFound:
    return SourceNotFound(f"{origin}, line 1, {text}.", uri=origin, line=1)
