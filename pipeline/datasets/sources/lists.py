"""Lists of pictures as spreadsheets and other tools write them: file, label, and part of a split.

Delimiter, encoding and columns are detected; what is not certain is an error or a warning, never a guess that
moves a label to another picture.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from pipeline.config.labels import normalize_label
from pipeline.config.sources import LabelFrom, ListColumns
from pipeline.datasets.sources.annotations import Annotations, read_document
from pipeline.datasets.sources.list_columns import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    PLURAL_COLUMNS,
    SPLIT_COLUMNS,
    SPLITS,
    MaybeSplit,
    describe_repeated,
)
from pipeline.errors import NoLabels, SourceNotFound
from pipeline.types import JsonObject, JsonValue

DELIMITERS = (",", ";", "\t")
SEPARATORS = (",", ";", "|")
VERTEX_ML_USE = "aiplatform.googleapis.com/ml_use"
MAX_LINE = 8192  # characters
PIECE_BYTES = 2**20
MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRow:
    """One picture of a list.

    Args:
        line: Its line.
        file: Its address or path, as the list writes it.
        label: Its class; empty where the list leaves it blank.
        split: Its part of a split, where the list has that.
    """

    line: int
    file: str
    label: str
    split: str | None = None


class PictureList:
    """The rows of a list.

    Args:
        file: The list, at its start; closed when all rows are read.
        origin: Its name, for messages.
        columns: The columns that the user named; the usual names by default.
        needs_labels: False if the user gave all pictures one label: then plain addresses do.
        label_from: Which category becomes the label of a picture that shows several.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        origin: str,
        columns: ListColumns | None = None,
        needs_labels: bool = True,
        label_from: LabelFrom = "largest",
    ) -> None:
        self.statements: list[str] = []
        self._file = file
        self._origin = origin
        self._columns = columns or ListColumns()
        self._needs_labels = needs_labels
        self._label_from: LabelFrom = label_from
        self._has_plural = False
        self._maybe_split = MaybeSplit(origin)
        self._spelling: dict[str, str] = {}  # of the header's names

    def rows(self) -> Iterator[ListRow]:
        """Yield the pictures in the order of the list.

        Raises:
            SourceNotFound: if it is no such list, naming line and remedy.
        """
        document = self._read_document()
        if document is not None:
            for number, each in enumerate(document.rows, 1):
                yield self._row(number, self._read_object(number, each))
            self.statements += [*document.statements, *self._maybe_split.statements]
            return
        lines = self._lines()
        first = next((line for line in lines if line[1].strip()), (1, ""))
        text = first[1].strip()
        if not text:
            return
        if text.startswith("{"):
            yield from self._json_rows(itertools.chain([first], lines))
        elif header := self._find_header(text):
            yield from self._table_rows(lines, *header, offset=first[0])
        elif not self._needs_labels:
            yield from self._plain_rows(itertools.chain([first], lines))
        else:
            yield from self._bare_rows(itertools.chain([first], lines), text)

    def _read_document(self) -> Annotations | None:
        """Return the pictures of a JSON document; None for a table, or for JSON with one object a line."""
        start = self._file.read(MAX_LINE).removeprefix(codecs.BOM_UTF8).lstrip()
        self._file.seek(0)
        if start.startswith(b"{"):
            try:
                first = json.loads(start.partition(b"\n")[0])
            except ValueError:
                first = {}
            if {name.lower() for name in first} & {*FILE_COLUMNS, (self._columns.file or "").lower()}:
                return None
        elif not start.startswith(b"["):
            return None
        data = self._file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            raise self._error(1, f"is a JSON document of more than {MAX_JSON_BYTES:,} bytes")
        try:
            value = json.loads(data, object_pairs_hook=_read_unique)
            return read_document(value, self._origin, self._columns, self._label_from)
        except (ValueError, RecursionError) as error:
            raise self._error(1, f"is no JSON: {error}") from error

    def _lines(self) -> Iterator[tuple[int, str]]:
        encoding = self._find_encoding()
        with io.TextIOWrapper(self._file, encoding=encoding, errors="replace", newline="") as text:
            for number in itertools.count(1):
                line = text.readline(MAX_LINE + 1)
                if not line:
                    return
                if len(line) > MAX_LINE or "\0" in line:
                    raise self._error(number, f"is a line that no list of pictures has: {line[:60]!r}")
                yield number, line

    def _find_encoding(self) -> str:
        """Return the encoding by the byte order mark, else UTF-8 if it fits, else Windows-1252."""
        start = self._file.read(3)
        self._file.seek(0)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        position = 0
        try:
            while piece := self._file.read(PIECE_BYTES):
                decoder.decode(piece)
                position += len(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            self._file.seek(max(0, position + error.start - 40))
            example = self._file.read(80).decode("cp1252", "replace").splitlines()
            shown = next((line for line in example if not line.isascii()), "")
            self.statements.append(
                f"encoding: {self._origin} is not UTF-8; it was read as Windows-1252, as in {shown.strip()!r}"
            )
            return "cp1252"
        finally:
            self._file.seek(0)
        return "utf-8-sig"

    def _find_header(self, text: str) -> tuple[str, list[str]] | None:
        """Return delimiter and column names if the first line is a header."""
        wanted = (self._columns.file.lower(),) if self._columns.file else FILE_COLUMNS
        headers = [(delimiter, _split_line(text, delimiter)) for delimiter in DELIMITERS]
        for delimiter in DELIMITERS:
            fields = next(csv.reader([text], delimiter=delimiter), [])
            self._spelling |= {field.strip().lower(): field.strip() for field in fields}
        named = [(delimiter, names) for delimiter, names in headers if set(names) & set(wanted)]
        if not named and self._columns.file:
            names = max((names for _, names in headers), key=len)
            problem = f"has no column {self._columns.file!r}. Received: {', '.join(names)}"
            raise self._error(1, problem, NoLabels)
        return max(named, key=lambda header: len(header[1]), default=None)

    def _table_rows(
        self, lines: Iterator[tuple[int, str]], delimiter: str, names: list[str], *, offset: int
    ) -> Iterator[ListRow]:
        one_hot = self._find_one_hot(names)
        columns = self._choose_columns(names, needs_label=self._needs_labels and not one_hot)
        self._refuse_repeated(names, [*columns.values(), *one_hot])
        reader = csv.reader((line for _, line in lines), delimiter=delimiter)
        try:
            for fields in reader:
                line = offset + reader.line_num
                self._check_length(line, fields, len(names), delimiter)
                values = dict(zip(names, fields, strict=False))
                self._find_split(names, values, columns)
                if values.get(columns["file"], "").strip():
                    chosen = {key: values.get(name, "") for key, name in columns.items()}
                    if one_hot:
                        chosen["label"] = self._read_one_hot(
                            line, {name: values.get(name, "") for name in one_hot}
                        )
                    yield self._row(line, chosen)
        except csv.Error as error:
            raise self._error(offset + reader.line_num, f"is no CSV: {error}") from error
        self.statements += self._maybe_split.statements

    def _find_split(self, names: Sequence[str], values: Mapping[str, str], columns: dict[str, str]) -> None:
        """Add the column of the part of a split, if its name alone does not tell."""
        split = None if "split" in columns else self._maybe_split.find(values, list(columns.values()))
        if split is not None:
            columns["split"] = split
            self._refuse_repeated(names, [split])

    def _refuse_repeated(self, names: Sequence[str], used: Sequence[str]) -> None:
        if problem := describe_repeated(names, used):
            raise self._error(1, problem)

    def _find_one_hot(self, names: Sequence[str]) -> list[str]:
        """Return the columns that may each stand for a class; none if there is a column of labels."""
        if self._columns.label or not self._needs_labels or set(names) & set(LABEL_COLUMNS):
            return []
        used = self._choose_columns(names, needs_label=False).values()
        others = [name for name in names if name not in used and name]
        return others if len(others) > 1 else []

    def _read_one_hot(self, line: int, values: Mapping[str, str]) -> str:
        """Return the name of the column that has the 1; empty without one."""
        numbers = {name: value.strip().removesuffix(".0") for name, value in values.items()}
        if set(numbers.values()) - {"0", "1", ""}:
            self._refuse_unlabelled(list(values))
        labels = [name for name, number in numbers.items() if number == "1"]
        if len(labels) > 1:
            raise self._error(line, f"has several labels: {', '.join(labels)}. A picture has one label")
        return self._spelling.get(labels[0], labels[0]) if labels else ""

    def _refuse_unlabelled(self, names: Sequence[str]) -> NoReturn:
        raise self._error(
            1,
            "gives no label; write a CSV with a column `label`, or name the columns: `columns: {file: ..., "
            f"label: ...}}`. Received: {', '.join(names)}",
            NoLabels,
        )

    def _choose_columns(self, names: Sequence[str], *, needs_label: bool) -> dict[str, str]:
        """Return the list's own name of each column that is used.

        Raises:
            SourceNotFound: if there is none for the label, where one is needed.
        """
        chosen = {}
        kinds = (("file", FILE_COLUMNS), ("label", LABEL_COLUMNS), ("split", SPLIT_COLUMNS))
        for key, synonyms in kinds:
            named = getattr(self._columns, key)
            candidates = (named.lower(),) if named else synonyms
            found_name = next((name for name in candidates if name in names), None)
            if found_name is not None:
                chosen[key] = found_name
                self._has_plural |= key == "label" and not named and found_name in PLURAL_COLUMNS
            elif named:
                raise self._error(
                    1,
                    f"has no column {named!r}, or name the columns: `columns: {{file: ..., label: ...}}`. "
                    f"Received: {', '.join(names)}",
                    NoLabels,
                )
            elif key == "label" and needs_label:
                self._refuse_unlabelled(names)
        return chosen

    def _check_length(self, line: int, fields: Sequence[str], width: int, delimiter: str) -> None:
        if any(field.strip() for field in fields[width:]):
            raise self._error(
                line,
                f"has {len(fields)} fields, {width} were expected: {delimiter.join(fields)[:80]!r}. Put "
                f"quotes around a value that contains {delimiter!r}",
            )

    def _plain_rows(self, lines: Iterator[tuple[int, str]]) -> Iterator[ListRow]:
        for number, line in lines:
            address = line.strip()
            if address and not address.startswith("#"):
                yield ListRow(line=number, file=address, label="")

    def _bare_rows(self, lines: Iterator[tuple[int, str]], first: str) -> Iterator[ListRow]:
        """Yield the rows of a list without a header: `[ml_use,]address,label`, as Vertex AI imports it."""
        fields = [(delimiter, _split_line(first, delimiter)) for delimiter in DELIMITERS]
        delimiter, values = max(fields, key=lambda each: len(each[1]))
        has_split = len(values) == 3 and values[0] in SPLITS
        is_path = len(values) > 1 and any(mark in values[has_split] for mark in "./")
        if len(values) != 2 + has_split or not is_path:
            raise self._error(
                1,
                f"gives {first[:100]!r} no label; write a CSV with the header `url,label`, or set `label` in "
                f"the source. Received columns: {', '.join(values)[:200]}",
                NoLabels,
            )
        keys = ("split", "file", "label") if has_split else ("file", "label")
        for number, line in lines:
            row = next(csv.reader([line], delimiter=delimiter), [])
            self._check_length(number, row, len(keys), delimiter)
            if any(field.strip() for field in row):
                yield self._row(number, dict(itertools.zip_longest(keys, row[: len(keys)], fillvalue="")))

    def _json_rows(self, lines: Iterator[tuple[int, str]]) -> Iterator[ListRow]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                value = json.loads(line, object_pairs_hook=_read_unique)
            except ValueError as error:
                raise self._error(number, f"is no JSON: {error}") from error
            if not isinstance(value, dict):
                raise self._error(number, "is no JSON object")
            yield self._row(number, self._read_object(number, value))
        self.statements += self._maybe_split.statements

    def _read_object(self, line: int, value: JsonObject) -> dict[str, str]:
        names = [name.lower() for name in value]
        values = dict(zip(names, value.values(), strict=True))
        annotation = values.get("classificationannotation")
        if isinstance(annotation, Mapping):  # as Vertex AI imports it
            labels = values.get("dataitemresourcelabels")
            use = labels.get(VERTEX_ML_USE) if isinstance(labels, Mapping) else ""
            values |= {"label": annotation.get("displayName"), "split": use}
        columns = self._choose_columns(list(values), needs_label=self._needs_labels)
        self._refuse_repeated(names, list(columns.values()))
        texts = {name: str(each) for name, each in values.items() if isinstance(each, str | int | float)}
        self._find_split(names, texts, columns)
        return {key: self._read_text(line, name, values[name]) for key, name in columns.items()}

    def _read_text(self, line: int, name: str, value: JsonValue) -> str:
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            value = value["choices"]
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, list | dict):
            raise self._error(line, f"has several values or none in {name!r}: a picture has one label")
        return "" if value is None else str(value)

    def _row(self, line: int, values: Mapping[str, str]) -> ListRow:
        split = values.get("split", "").strip().casefold()
        if split not in SPLITS:
            raise self._error(
                line,
                f"names the part {split!r} of a split; expected train, validation or test. Rename the column "
                "or name the right one: `columns: {file: ..., label: ..., split: ...}`",
            )
        return ListRow(
            line=line,
            file=values["file"].strip(),
            label=self._checked_label(line, values.get("label", "")),
            split=SPLITS[split],
        )

    def _checked_label(self, line: int, text: str) -> str:
        """Return a label; a column for several may hold one only."""
        label = normalize_label(text)
        if self._has_plural and any(mark in label for mark in SEPARATORS):
            raise self._error(line, f"has several labels: {label[:80]!r}. A picture has one label")
        if self._has_plural and " " in label and not self.statements:
            self.statements.append(
                f"multi_label: {self._origin}, line {line}, has the label {label!r} in a column for several; "
                "it was taken as one"
            )
        return label

    def _error(self, line: int, text: str, kind: type[SourceNotFound] = SourceNotFound) -> SourceNotFound:
        return kind(f"{self._origin}, line {line}, {text}.", uri=self._origin, line=line)


def _split_line(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line in lower case."""
    return [field.strip().lower() for field in next(csv.reader([line], delimiter=delimiter), [])]


def _read_unique(pairs: Sequence[tuple[str, JsonValue]]) -> JsonObject:
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
