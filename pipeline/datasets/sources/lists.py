"""Lists of pictures as spreadsheets and other tools write them: file, label, and part of a split.

Delimiter, encoding and columns are detected; what is not certain is an error or a warning, never a guess that
moves a label to another picture.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from pipeline.config.labels import normalize_label
from pipeline.config.sources import LabelFrom, ListColumns
from pipeline.datasets.sources.list_columns import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    PLURAL_COLUMNS,
    SPLIT_COLUMNS,
    SPLITS,
    MaybeSplit,
    describe_repeated,
)
from pipeline.datasets.sources.list_document import MAX_LINE, open_document, read_unique
from pipeline.datasets.sources.list_encoding import find_encoding
from pipeline.datasets.sources.list_labels import (
    DOUBTFUL,
    MISSING,
    describe_doubtful,
    find_label,
    flatten_object,
    open_text,
    read_value,
    split_at_space,
)
from pipeline.errors import NoLabels, SourceNotFound
from pipeline.types import JsonObject, JsonValue

DELIMITERS = (",", ";", "\t", "|")
SEPARATORS = (",", ";", "|")


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
        self._has_chosen = self._columns.label is not None
        self._doubtful: Counter[str] = Counter()
        self._maybe_split = MaybeSplit(origin)
        self._label = ""  # the column that was chosen of several
        self._spelling: dict[str, str] = {}  # of the header's names

    def rows(self) -> Iterator[ListRow]:
        """Yield the pictures in the order of the list.

        Raises:
            SourceNotFound: if it is no such list, naming line and remedy.
        """
        yield from self._rows()
        self.statements += self._maybe_split.statements
        self.statements += describe_doubtful(self._doubtful, self._origin)

    def _rows(self) -> Iterator[ListRow]:
        document = open_document(self._file, self._origin, self._columns, self._label_from)
        if document is not None:
            for number, each in enumerate(document.rows, 1):
                yield self._row(number, self._read_object(number, each))
            self.statements += document.statements
            return
        lines = self._lines()
        first = self._skip_remarks(lines)
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

    def _skip_remarks(self, lines: Iterator[tuple[int, str]]) -> tuple[int, str]:
        """Return the first line that counts: not `sep=;`, which is for Excel, and no comment."""
        for number, line in lines:
            text = line.strip()
            if text.startswith("#") and self._find_header(text.lstrip("# ")):
                return number, text.lstrip("# ")
            if text and not text.startswith("#") and not text.lower().startswith("sep="):
                return number, line
        return 1, ""

    def _lines(self) -> Iterator[tuple[int, str]]:
        encoding, statements = find_encoding(self._file, self._origin)
        self.statements += statements
        with io.TextIOWrapper(self._file, encoding=encoding, errors="replace", newline="") as text:
            for number in itertools.count(1):
                line = text.readline(MAX_LINE + 1)
                if not line:
                    return
                if len(line) > MAX_LINE or "\0" in line:
                    raise self._error(number, f"is a line that no list of pictures has: {line[:60]!r}")
                yield number, line

    def _find_header(self, text: str) -> tuple[str, list[str]] | None:
        """Return delimiter and column names if the first line is a header."""
        wanted = (self._columns.file.lower(),) if self._columns.file else FILE_COLUMNS
        headers = [(delimiter, _split_line(text, delimiter)) for delimiter in DELIMITERS]
        for delimiter in DELIMITERS:
            fields = next(csv.reader([text], delimiter=delimiter), [])
            self._spelling |= {field.strip().lower(): field.strip() for field in fields}
        named = [(delimiter, names) for delimiter, names in headers if set(names) & set(wanted)]
        if not named and self._columns.file and not text.startswith("#"):
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
                self._choose_label(values, columns)
                if values.get(columns["file"], "").strip():
                    chosen = {key: values.get(name, "") for key, name in columns.items()}
                    if one_hot:
                        chosen["label"] = self._read_one_hot(
                            line, {name: values.get(name, "") for name in one_hot}
                        )
                    yield self._row(line, chosen)
        except csv.Error as error:
            raise self._error(offset + reader.line_num, f"is no CSV: {error}") from error

    def _choose_label(self, values: Mapping[str, str], columns: dict[str, str]) -> None:
        """Take the column of names where another has their numbers, and tell of others that may be meant."""
        if "label" in columns and not self._has_chosen:
            self._has_chosen = True
            self._label, statements = find_label(values, columns, self._origin)
            self.statements += statements
        if "label" in columns and self._label in values:
            columns["label"] = self._label

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
        if len(values) == 1 and (parts := split_at_space(first)):
            yield from self._spaced_rows(lines, parts)
            return
        if len(values) != 2 + has_split or not is_path:
            self._refuse_without_file(values)
            raise self._error(
                1,
                f"gives {first[:100]!r} no label; write a CSV with the header `url,label`, or set `label` in "
                f"the source. Received columns: {', '.join(values)[:200]}",
                NoLabels,
            )
        keys = ("split", "file", "label") if has_split else ("file", "label")
        for number, line in lines:
            row = next(csv.reader([line], delimiter=delimiter), [])
            if len([field for field in row if field.strip()]) > len(keys):
                raise self._error(
                    number,
                    f"has {len(row)} fields, {len(keys)} were expected: {delimiter.join(row)[:80]!r}. A "
                    f"picture has one label; put quotes around a value that contains {delimiter!r}",
                )
            if any(field.strip() for field in row):
                yield self._row(number, dict(itertools.zip_longest(keys, row[: len(keys)], fillvalue="")))

    def _spaced_rows(self, lines: Iterator[tuple[int, str]], first: tuple[str, str]) -> Iterator[ListRow]:
        """Yield the rows of a list such as `img/1.jpg 3`, as programs for training write it."""
        for number, line in lines:
            if not line.strip():
                continue
            parts = split_at_space(line.strip())
            if parts is None:
                raise self._error(
                    number, f"is no path and label like {' '.join(first)!r}: {line.strip()[:80]!r}"
                )
            yield self._row(number, {"file": parts[0], "label": parts[1]})

    def _refuse_without_file(self, names: Sequence[str]) -> None:
        if set(names) & {*LABEL_COLUMNS, (self._columns.label or "").lower()}:
            raise self._error(
                1,
                "has no known column of files; name it: `columns: {file: ..., label: ...}`. Received: "
                f"{', '.join(names)}",
                NoLabels,
            )

    def _json_rows(self, lines: Iterator[tuple[int, str]]) -> Iterator[ListRow]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                value = json.loads(line, object_pairs_hook=read_unique)
            except ValueError as error:
                raise self._error(number, f"is no JSON: {error}") from error
            if not isinstance(value, dict):
                raise self._error(number, "is no JSON object")
            yield self._row(number, self._read_object(number, value))

    def _read_object(self, line: int, value: JsonObject) -> dict[str, str]:
        names = [name.lower() for name in value]
        values = flatten_object(dict(zip(names, value.values(), strict=True)))
        columns = self._choose_columns(list(values), needs_label=self._needs_labels)
        self._refuse_repeated(names, [name for name in columns.values() if name in names])
        texts = {name: str(each) for name, each in values.items() if isinstance(each, str | int | float)}
        self._find_split(names, texts, columns)
        self._choose_label(texts, columns)
        return {key: self._read_text(line, name, values.get(name)) for key, name in columns.items()}

    def _read_text(self, line: int, name: str, value: JsonValue) -> str:
        try:
            return read_value(value)
        except ValueError as error:
            raise self._error(line, f"has {error} in {name!r}: a picture has one label") from error

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
        try:
            label = normalize_label(open_text(text.strip()))
        except ValueError as error:
            raise self._error(line, f"has {error}. A picture has one label") from error
        if label.casefold() in MISSING:
            return ""
        if label.casefold() in DOUBTFUL:
            self._doubtful[label] += 1
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
