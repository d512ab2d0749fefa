"""A list of addresses: a CSV `url,label`, or a text with an address on each line."""

from __future__ import annotations

import csv
import io
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO
from urllib.parse import urlsplit

from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import UrlListSection
from pipeline.datasets.fetcher import download_if_changed, public_url
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import EmptyDataset, ObjectNotFound, SourceNotFound
from pipeline.types import JsonObject

MAX_LINE = 8192  # characters


class UrlListSource:
    """The pictures of a list; every address once for each label.

    Args:
        section: The source's section.
        context: Storage and policy.
    """

    def __init__(self, section: UrlListSection, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._section = section
        self._context = context

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th address; with `limit_per_class`, all of every num_chunks-th label.

        Raises:
            SourceNotFound: if there is no list, or it is none.
            EmptyDataset: if it has no address.
        """
        seen: set[int] = set()
        numbers: dict[str, int] = {}
        by_label = self._section.limit_per_class is not None
        position = -1
        with self._opened() as file:
            for url, label in self._rows(file):
                number = numbers.setdefault(label, len(numbers))
                key = hash((url, label))
                if key in seen:
                    continue
                seen.add(key)
                position += 1
                if (number if by_label else position) % num_chunks == chunk:
                    yield SourceEntry(
                        position=position,
                        label=label,
                        provenance=Provenance(source_url=public_url(url)),
                        validator="",
                        url=url,
                    )
        if position < 0:
            raise EmptyDataset(f"{self._origin} lists no address.", uri=self._origin)

    @property
    def _origin(self) -> str:
        return public_url(self._section.uri)

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        uri = self._section.uri
        if urlsplit(uri).scheme in ("http", "https"):
            with tempfile.TemporaryFile() as file:
                download_if_changed(uri, file, validators=None, policy=self._context.policy)
                file.seek(0)
                yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
            return
        try:
            path = self._context.storage.local_path(uri)
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as local:
                yield local
        except (ObjectNotFound, OSError) as error:
            raise SourceNotFound(
                f"there is no list {uri}; correct `dataset.source.uri`, which needs a CSV or a text file.",
                uri=uri,
            ) from error

    def _rows(self, file: TextIO) -> Iterator[tuple[str, str]]:
        lines = _lines(file, self._origin)
        first = next(lines, "")
        columns = [name.strip().lower() for name in next(csv.reader([first]), [])]
        if "url" in columns:
            yield from self._csv_rows(lines, columns)
            return
        for line in itertools.chain([first], lines):
            address = line.strip()
            if address and not address.startswith("#"):
                yield address, self._label("", address)

    def _csv_rows(self, lines: Iterator[str], columns: list[str]) -> Iterator[tuple[str, str]]:
        url_column = columns.index("url")
        label_column = columns.index("label") if "label" in columns else -1
        try:
            for row in csv.reader(lines):
                if len(row) > url_column and row[url_column].strip():
                    row_label = row[label_column].strip() if 0 <= label_column < len(row) else ""
                    yield row[url_column].strip(), self._label(row_label, row[url_column])
        except csv.Error as error:
            raise SourceNotFound(f"{self._origin} is no CSV: {error}.", uri=self._origin) from error

    def _label(self, row_label: str, address: str) -> str:
        label = self._section.label or row_label
        if not label:
            raise SourceNotFound(
                f"{self._origin} gives {address[:100]!r} no label; write a CSV with the header "
                "`url,label`, or set `label` in the source.",
                uri=self._origin,
            )
        return label


def _lines(file: TextIO, origin: str) -> Iterator[str]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE or "\0" in line:
            raise SourceNotFound(
                f"{origin} has a line that no list of addresses has: {line[:60]!r}.", uri=origin
            )
        yield line
