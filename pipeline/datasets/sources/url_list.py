"""A list of pictures: addresses of the network, objects of a bucket, or files beside the list."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import UrlListSection
from pipeline.datasets.fetcher import FetchReason, download_if_changed, find_direct_link, public_url
from pipeline.datasets.sources.lists import ListRow, PictureList
from pipeline.datasets.sources.nearby_files import find_nearby
from pipeline.datasets.sources.row_files import path_parts
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.datasets.sources.split_names import TEST, VALIDATION, describe_split, find_folder_parts
from pipeline.errors import EmptyDataset, ObjectNotFound, SourceNotFound
from pipeline.types import JsonObject

WEB = ("http", "https")


class UrlListSource:
    """The pictures of a list; every address once for each label.

    Paths are relative to the list. A list of the network names addresses of the network only.

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
        self._moved: dict[str, Path] = {}  # files that lie elsewhere than their rows say

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th address; with `limit_per_class`, all of every num_chunks-th label.

        Raises:
            SourceNotFound: if there is no list, or it is none.
            EmptyDataset: if it has no address.
        """
        seen: dict[int, str | None] = {}  # parts of a split
        numbers: dict[str, int] = {}
        by_label = self._section.limit_per_class is not None
        position = -1
        with self._opened() as file:
            parts = self._find_parts(file, is_told=chunk == 0)
            self._moved = self._find_moved(file, is_told=chunk == 0)
            pictures = self._read_list(file)
            for each in pictures.rows():
                row = replace(each, split=each.split or parts.get(_folder(each.file)))
                label = self._section.label or row.label
                number = numbers.setdefault(label, len(numbers))
                key = hash((row.file, label))
                if key in seen:
                    self._check_part(row, seen[key])
                    continue
                seen[key] = row.split
                position += 1
                if (number if by_label else position) % num_chunks == chunk:
                    yield self._entry(position, label, row)
        if position < 0:
            raise EmptyDataset(f"{self._origin} lists no address.", uri=self._origin)
        if chunk == 0:
            self.statements += pictures.statements

    def _check_part(self, row: ListRow, split: str | None) -> None:
        if row.split != split:
            raise SourceNotFound(
                f"{self._origin}, line {row.line}, puts {row.file} into the {row.split or 'no'} part of a "
                f"split, another line into {split or 'none'}. A picture is in one part: correct the list.",
                uri=self._origin,
                line=row.line,
            )

    def _read_list(self, file: BinaryIO) -> PictureList:
        return PictureList(
            file,
            origin=self._origin,
            columns=self._section.columns,
            needs_labels=self._section.label is None,
            label_from=self._section.label_from or "largest",
        )

    def _find_parts(self, file: BinaryIO, *, is_told: bool) -> Mapping[str, str]:
        """Return the part of a split of each folder, if no column tells it; `is_told` adds a statement."""
        folders: Counter[str] = Counter()
        splits: Counter[str | None] = Counter()
        is_web = False
        with open(os.dup(file.fileno()), "rb") as copy:
            for row in self._read_list(copy).rows():
                if self._section.label or row.label:
                    folders[_folder(row.file)] += 1
                    splits[row.split] += 1
                    is_web |= urlsplit(self._resolve(row.file)).scheme in WEB
        file.seek(0)
        parts = {}
        if set(splits) <= {None}:
            parts = find_folder_parts(folders, may_stand_alone=not is_web)
            for folder, split in parts.items():
                splits[split] += folders[folder]
        if is_told and {TEST, VALIDATION} & set(splits):
            counts = {split: count for split, count in splits.items() if split is not None}
            self.statements += describe_split(counts, splits[TEST])
        return parts

    def _find_moved(self, file: BinaryIO, *, is_told: bool) -> dict[str, Path]:
        """Return where the files lie that rows name by the paths of another computer."""
        if urlsplit(self._section.uri).scheme in (*WEB, "gs"):
            return {}
        rows, taken = [], set()
        with open(os.dup(file.fileno()), "rb") as copy:
            for row in self._read_list(copy).rows():
                address = self._resolve(row.file)
                path = _local_path(address) if urlsplit(address).scheme == "file" else None
                if path is not None and path.is_file():
                    taken.add(path)
                elif urlsplit(address).scheme not in (*WEB, "gs"):
                    rows.append(row)
        file.seek(0)
        moved, statements = find_nearby(_local_path(self._section.uri), rows, taken)
        self.statements += statements if is_told else []
        return moved

    @property
    def _origin(self) -> str:
        return public_url(self._section.uri)

    def _entry(self, position: int, label: str, row: ListRow) -> SourceEntry:
        refused = None if label else FetchReason.UNLABELLED
        moved = self._moved.get(row.file)
        address = self._resolve(row.file) if moved is None else moved.as_uri()
        if urlsplit(address).scheme in WEB or not self._is_file(address):
            return SourceEntry(
                position=position,
                label=label,
                provenance=Provenance(source_url=public_url(address)),
                validator="",
                url=find_direct_link(address),
                refused=refused,
                split=row.split,
            )
        path = self._find(address)
        facts = None if path is None else path.stat()
        return SourceEntry(
            position=position,
            label=label,
            provenance=Provenance(source_url=address),
            validator="" if facts is None else f"{facts.st_size} bytes, {facts.st_mtime_ns} ns",
            read=lambda: self._read(path),
            refused=refused or (FetchReason.NOT_FOUND if path is None else None),
            split=row.split,
        )

    def _resolve(self, file: str) -> str:
        """Return the address of a picture; paths are relative to the list."""
        uri, scheme = self._section.uri, urlsplit(file).scheme
        if scheme:
            return file
        if urlsplit(uri).scheme in WEB:
            return urljoin(uri, file)
        path = file.replace("\\", "/")
        if urlsplit(uri).scheme == "gs":
            return f"{uri.rpartition('/')[0]}/{path.removeprefix('./')}"
        return (_local_path(uri).parent / path).as_uri()

    def _is_file(self, address: str) -> bool:
        """Return True for a place that the list may name: one of the network names no files of ours."""
        return urlsplit(address).scheme in ("gs", "file") and urlsplit(self._section.uri).scheme not in WEB

    def _find(self, address: str) -> Path | None:
        if urlsplit(address).scheme == "file":
            path = _local_path(address)
            return path if path.is_file() else None
        try:
            return self._context.storage.local_path(address)
        except ObjectNotFound:
            return None

    def _read(self, path: Path | None) -> bytes:
        self.transferred += 1
        return b"" if path is None else path.read_bytes()

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        uri = self._section.uri
        if urlsplit(uri).scheme in WEB:
            with tempfile.TemporaryFile() as file:
                download_if_changed(uri, file, validators=None, policy=self._context.policy)
                file.seek(0)
                yield file
            return
        try:
            is_object = urlsplit(uri).scheme == "gs"
            path = self._context.storage.local_path(uri) if is_object else _local_path(uri)
            with path.open("rb") as local:
                yield local
        except (ObjectNotFound, OSError) as error:
            raise SourceNotFound(
                f"there is no list {uri}; correct `dataset.source.uri`, which needs a CSV or a text file.",
                uri=uri,
            ) from error


def _folder(file: str) -> str:
    """Return the folder of a path or an address, as `find_folder_parts` takes it."""
    return "/".join(path_parts(file)[:-1])


def _local_path(uri: str) -> Path:
    parts = urlsplit(uri)
    return Path(unquote(parts.path) if parts.scheme == "file" else uri).expanduser().absolute()
