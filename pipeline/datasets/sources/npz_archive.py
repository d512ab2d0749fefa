"""Arrays of pictures: an NPZ archive such as the article's, or a folder of `.npy` files.

Rows are streamed: an archive larger than the memory can be read. Each row becomes a lossless PNG.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from pipeline.artifacts.codec import as_object, build_record
from pipeline.artifacts.provenance import Provenance
from pipeline.datasets.fetcher import Validators, download_if_changed, public_url
from pipeline.datasets.sources.npz_labels import read_labels, resolve_labels
from pipeline.datasets.sources.npz_layout import ArrayPart, PictureShape, find_parts, find_shape, find_unused
from pipeline.datasets.sources.npz_levels import Levels, choose_levels, measure_range
from pipeline.datasets.sources.source import SourceEntry
from pipeline.datasets.sources.split_names import TEST
from pipeline.errors import BadArchive, ObjectNotFound, SourceNotFound, StorageError
from pipeline.npz import ArrayHeader, iterate_rows, read_header
from pipeline.pixels.spec import MAX_PIXELS
from pipeline.storage import Storage
from pipeline.types import JsonObject, UInt8Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

BATCH_BYTES = 16 * 2**20
PNG_LEVEL = 3  # a third of the time of Pillow's default for a tenth more bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArchiveNote:
    """What is remembered of an archive, so that an unchanged one is not opened again.

    `levels` are those of each part: train and test set may have been scaled in different ways.
    """

    uri: str
    validators: Validators
    sha256: str
    labels: list[int | str]
    parts: list[ArrayPart]
    shape: PictureShape
    levels: list[Levels]
    statements: list[str]

    @classmethod
    def from_dict(cls, value: JsonObject) -> _ArchiveNote | None:
        """Read what `asdict` wrote; None for the note of an earlier release, which held less."""
        parts, levels = value.get("parts"), value.get("levels")
        if not isinstance(parts, list) or not isinstance(levels, list):
            return None
        return build_record(
            cls,
            value,
            validators=build_record(Validators, as_object(value["validators"])),
            parts=[build_record(ArrayPart, as_object(part)) for part in parts],
            shape=build_record(PictureShape, as_object(value["shape"])),
            levels=[build_record(Levels, as_object(each)) for each in levels],
        )


class NpzSource:
    """The rows of one archive, all in the first chunk: it is one file.

    Args:
        uri: A path, `file://`, `gs://` or `http(s)://` address.
        classes: The label of class 0, of class 1, and so on.
        storage: Reads everything but HTTP.
        previous: The notes of the last run.
        label: The class of every row, whatever the archive says.
    """

    def __init__(
        self,
        uri: str,
        *,
        classes: list[str],
        storage: Storage,
        previous: JsonObject,
        label: str | None = None,
    ) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._uri = uri
        self._origin = public_url(uri)
        self._classes = classes
        self._label = label
        self._storage = storage
        note = _ArchiveNote.from_dict(as_object(previous["archive"])) if "archive" in previous else None
        self._previous = note if note and note.uri == self._origin else None

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every row, in order, all in the first chunk.

        Raises:
            SourceNotFound: if there is no such archive.
            BadArchive: if it does not keep the format.
            EmptyDataset: if it has no row, or a class has none.
        """
        if chunk:
            return
        with self._opened() as (note, file):
            labels = (
                [self._label] * len(note.labels)
                if self._label is not None
                else resolve_labels(note.labels, self._classes, self._origin)
            )
            self.notes = {"archive": asdict(note)}
            self.statements = note.statements
            pictures = None if file is None else _PictureReader(file, note, self._origin)
            for position, (name, split, levels) in enumerate(_rows(note)):
                yield SourceEntry(
                    position=position,
                    label=labels[position],
                    provenance=Provenance(source_url=f"{_absolute(self._origin)}#{name}"),
                    validator=f"sha256 {note.sha256}, levels {levels.offset:g} {levels.scale:g}",
                    read=lambda row=position: _read_row(pictures, row, self._origin),  # type: ignore[misc]
                    split=split,
                )

    @contextmanager
    def _opened(self) -> Iterator[tuple[_ArchiveNote, BinaryIO | None]]:
        """Give the archive's facts and, unless it has not changed, the open file."""
        if urlsplit(self._uri).scheme in ("http", "https"):
            with tempfile.TemporaryFile() as file:
                validators = None if self._previous is None else self._previous.validators
                yield self._note_of(file, download_if_changed(self._uri, file, validators=validators))
            return
        path = _find_file(self._uri, self._storage)
        files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
        facts = [each.stat() for each in files]
        now = Validators(
            last_modified=f"{max(each.st_mtime_ns for each in facts)} ns",
            length=sum(each.st_size for each in facts),
        )
        changed = self._previous is None or not now.same_file_as(self._previous.validators)
        with _open_archive(path, files) as local:
            yield self._note_of(local, now if changed else None)

    def _note_of(self, file: BinaryIO, validators: Validators | None) -> tuple[_ArchiveNote, BinaryIO | None]:
        if validators is None and self._previous is not None:
            log.info("%s is unchanged; it was not read again", self._origin)
            return self._previous, None
        self.transferred += 1
        return _inspect(file, self._origin, validators or Validators(), len(self._classes)), file


class _PictureReader:
    """Rows as PNG files, read in order only."""

    def __init__(self, file: BinaryIO, note: _ArchiveNote, uri: str) -> None:
        self._note = note
        self._rows = enumerate(
            (levels, row)
            for part, levels in zip(note.parts, note.levels, strict=True)
            for batch in _batches(file, part, uri)
            for row in batch
        )

    def read(self, wanted: int) -> bytes:
        levels, row = next(pixels for index, pixels in self._rows if index == wanted)
        shape = self._note.shape
        if shape.is_channels_first:
            row = row.transpose(1, 2, 0)
        picture = levels.apply(row)
        return _encode_png(picture if shape.channels > 1 else picture.reshape(shape.height, shape.width))


def _rows(note: _ArchiveNote) -> Iterator[tuple[str, str | None, Levels]]:
    """Yield the name of each row, the part of a split that it is in, and how its numbers are read."""
    for part, levels in zip(note.parts, note.levels, strict=True):
        prefix = "" if len(note.parts) == 1 else f"{part.features}/"
        for row in range(part.rows):
            yield f"{prefix}{row}", part.split, levels


def _read_row(pictures: _PictureReader | None, row: int, uri: str) -> bytes:
    if pictures is None:
        raise StorageError(
            f"the picture of row {row} of {uri} is no longer in the bucket; fetch again.", row=row
        )
    return pictures.read(row)


def _find_file(uri: str, storage: Storage) -> Path:
    try:
        path = storage.local_path(uri)
    except ObjectNotFound as error:
        raise SourceNotFound(
            f"there is no archive {uri}; correct `dataset.source.uri`, which needs an .npz file, or a folder "
            "of .npy files.",
            uri=uri,
        ) from error
    if path.suffix == ".npy":
        raise SourceNotFound(
            f"{uri} is one array; name the folder that has this file and the one of the labels.", uri=uri
        )
    if path.is_dir() and not any(path.glob("*.npy")):
        raise SourceNotFound(
            f"{uri} is a folder; `type: npz` needs an .npz file or a folder of .npy files, `type: folder` a "
            "folder of pictures.",
            uri=uri,
        )
    return path


@contextmanager
def _open_archive(path: Path, files: Sequence[Path]) -> Iterator[BinaryIO]:
    """Open an archive; a folder of `.npy` files becomes one in a temporary file."""
    if path.is_file():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for each in files:
                archive.write(each, each.name)
        yield packed


def _absolute(uri: str) -> str:
    return uri if urlsplit(uri).scheme else Path(uri).expanduser().absolute().as_uri()


def _inspect(file: BinaryIO, uri: str, validators: Validators, num_classes: int) -> _ArchiveNote:
    headers = read_header(file, origin=uri)
    parts = find_parts(headers, uri)
    shape = find_shape(headers[parts[0].features], uri)
    if not 0 < shape.height * shape.width <= MAX_PIXELS:
        raise BadArchive(
            f"{uri}: a picture has {shape.height} x {shape.width} pixels; expected 1 to {MAX_PIXELS}.",
            uri=uri,
        )
    ranges = [measure_range(_batches(file, part, uri), headers[part.features], uri) for part in parts]
    levels, level_statements = choose_levels(ranges, uri)
    labels: list[int | str] = []
    label_statements = []
    for part in parts:
        read, statement = read_labels(file, headers[part.labels], num_classes, uri)
        labels += read
        label_statements.append(statement)
    statements = [
        _describe_parts(parts),
        _describe_unused(headers, parts),
        shape.statement,
        *level_statements,
        *dict.fromkeys(label_statements),
    ]
    return _ArchiveNote(
        uri=uri,
        validators=validators,
        sha256=_digest(file),
        labels=labels,
        parts=parts,
        shape=shape,
        levels=levels,
        statements=[statement for statement in statements if statement],
    )


def _describe_parts(parts: Sequence[ArrayPart]) -> str:
    names = ", ".join(f"{part.features} with {part.labels} ({part.rows})" for part in parts)
    if len(parts) == 1:
        return "" if (parts[0].features, parts[0].labels) == ("features", "labels") else f"arrays: {names}"
    kept = "their test set is kept" if any(part.split == TEST for part in parts) else "all are split anew"
    return f"given_split: arrays {names} are parts of a split; {kept}"


def _describe_unused(headers: Mapping[str, ArrayHeader], parts: Sequence[ArrayPart]) -> str:
    unused = ", ".join(f"{name} {headers[name].shape}" for name in find_unused(headers, parts))
    return f"arrays: not used: {unused}" if unused else ""


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(BATCH_BYTES):
        digest.update(data)
    return digest.hexdigest()


def _batches(file: BinaryIO, part: ArrayPart, uri: str) -> Iterator[NDArray[np.generic]]:
    header = read_header(file, origin=uri)[part.features]
    row_bytes = max(1, header.num_bytes // max(1, header.shape[0]))
    return iterate_rows(file, part.features, rows=max(1, BATCH_BYTES // row_bytes), origin=uri)


def _encode_png(pixels: UInt8Image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
