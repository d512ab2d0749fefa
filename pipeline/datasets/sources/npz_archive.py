"""An NPZ archive of pictures, such as the article's: `features` (n, h, w, 3) and `labels` (n,).

Rows are streamed: an archive larger than the memory can be read. Each row becomes a lossless PNG.
"""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
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
from pipeline.datasets.sources.npz_remedy import describe_remedy
from pipeline.datasets.sources.source import SourceEntry
from pipeline.errors import BadArchive, EmptyDataset, ObjectNotFound, SourceNotFound, StorageError
from pipeline.npz import ArraySpec, check_schema, iterate_rows, read_header, read_npz
from pipeline.pixels.spec import MAX_PIXELS
from pipeline.storage import Storage
from pipeline.types import JsonObject, UInt8Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

FEATURES = ArraySpec(kinds="uf", shape=(None, None, None, 3))
LABELS = ArraySpec(kinds="iuf", shape=(None,))
BATCH_BYTES = 16 * 2**20
PNG_LEVEL = 3  # a third of the time of Pillow's default for a tenth more bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArchiveNote:
    """What is remembered of an archive, so that an unchanged one is not opened again."""

    uri: str
    validators: Validators
    sha256: str
    labels: list[int]
    scale: float
    statements: list[str]

    @classmethod
    def from_dict(cls, value: JsonObject) -> _ArchiveNote:
        validators = build_record(Validators, as_object(value["validators"]))
        return build_record(cls, value, validators=validators)


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
            if self._label is None:
                _check_labels(note.labels, self._classes, self._origin)
            self.notes = {"archive": asdict(note)}
            self.statements = note.statements
            pictures = None if file is None else _PictureReader(file, note.scale, self._origin)
            for row, label in enumerate(note.labels):
                yield SourceEntry(
                    position=row,
                    label=self._classes[label] if self._label is None else self._label,
                    provenance=Provenance(source_url=f"{_absolute(self._origin)}#{row}"),
                    validator=f"sha256 {note.sha256}",
                    read=lambda row=row: _read_row(pictures, row, self._origin),  # type: ignore[misc]
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
        facts = path.stat()
        now = Validators(last_modified=f"{facts.st_mtime_ns} ns", length=facts.st_size)
        changed = self._previous is None or not now.same_file_as(self._previous.validators)
        with path.open("rb") as local:
            yield self._note_of(local, now if changed else None)

    def _note_of(self, file: BinaryIO, validators: Validators | None) -> tuple[_ArchiveNote, BinaryIO | None]:
        if validators is None and self._previous is not None:
            log.info("%s is unchanged; it was not read again", self._origin)
            return self._previous, None
        self.transferred += 1
        return _inspect(file, self._origin, validators or Validators()), file


class _PictureReader:
    """Rows as PNG files, read in order only."""

    def __init__(self, file: BinaryIO, scale: float, uri: str) -> None:
        self._scale = scale
        self._rows = enumerate(row for batch in _batches(file, uri) for row in batch)

    def read(self, wanted: int) -> bytes:
        row = next(pixels for index, pixels in self._rows if index == wanted)
        return _encode_png(_to_levels(row, self._scale))


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
            f"there is no archive {uri}; correct `dataset.source.uri`, which needs an .npz file.", uri=uri
        ) from error
    if not path.is_file():
        raise SourceNotFound(
            f"{uri} is a folder; `type: npz` needs an .npz file, `type: folder` a folder.", uri=uri
        )
    return path


def _absolute(uri: str) -> str:
    return uri if urlsplit(uri).scheme else Path(uri).expanduser().absolute().as_uri()


def _inspect(file: BinaryIO, uri: str, validators: Validators) -> _ArchiveNote:
    headers = read_header(file, origin=uri)
    try:
        check_schema(headers, {"features": FEATURES, "labels": LABELS}, origin=uri)
    except BadArchive as error:
        remedy = describe_remedy(headers, uri.rpartition("/")[2])
        raise BadArchive(f"{error.message}{remedy}", **error.details) from error
    features = headers["features"]
    if features.dtype.kind == "u" and features.dtype.itemsize != 1:
        raise BadArchive(
            f"{uri}: `features` is {features.dtype}; save it as uint8 (0 to 255) or as floats.", uri=uri
        )
    if features.shape[:1] != headers["labels"].shape:
        raise BadArchive(
            f"{uri}: `features` has {features.shape[0]} rows and `labels` {headers['labels'].shape[0]}; "
            "each picture needs one label.",
            uri=uri,
        )
    if not 0 < features.shape[1] * features.shape[2] <= MAX_PIXELS:
        raise BadArchive(
            f"{uri}: a picture has {features.shape[1]} x {features.shape[2]} pixels; "
            f"expected 1 to {MAX_PIXELS}.",
            uri=uri,
        )
    scale, statements = (1.0, []) if features.dtype.kind == "u" else _find_scale(file, uri)
    return _ArchiveNote(
        uri=uri,
        validators=validators,
        sha256=_digest(file),
        labels=_read_labels(file, uri),
        scale=scale,
        statements=statements,
    )


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(BATCH_BYTES):
        digest.update(data)
    return digest.hexdigest()


def _read_labels(file: BinaryIO, uri: str) -> list[int]:
    labels = read_npz(file, {"labels": LABELS}, origin=uri)["labels"]
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise BadArchive(
            f"{uri}: `labels` holds fractions or NaN; expected whole numbers, the class of each picture.",
            uri=uri,
        )
    return [int(label) for label in labels]


def _check_labels(labels: list[int], classes: list[str], uri: str) -> None:
    unknown = sorted({label for label in labels if not 0 <= label < len(classes)})
    if unknown:
        raise BadArchive(
            f"{uri}: `labels` holds {unknown[:5]}, but `classes` names classes 0 to {len(classes) - 1} "
            f"({', '.join(classes)}); name the others too or correct `labels`.",
            uri=uri,
        )
    absent = [name for index, name in enumerate(classes) if index not in set(labels)]
    if absent:
        raise EmptyDataset(
            f"{uri}: no picture is labelled {', '.join(absent)}; a classifier needs pictures of every class. "
            "Add some or take the class out of `classes`.",
            uri=uri,
            classes=absent,
        )


def _find_scale(file: BinaryIO, uri: str) -> tuple[float, list[str]]:
    """Return what floats are multiplied by to be levels, and a statement about it."""
    low, high, whole = np.inf, -np.inf, True
    for batch in _batches(file, uri):
        if not np.isfinite(batch).all():
            raise BadArchive(f"{uri}: `features` holds NaN or infinity; expected levels 0 to 255.", uri=uri)
        low, high = min(low, float(batch.min())), max(high, float(batch.max()))
        whole = whole and bool((batch == np.rint(batch)).all())
    if low < 0 or high > 255:
        raise BadArchive(
            f"{uri}: `features` ranges from {low:g} to {high:g}; expected levels 0 to 255, or 0 to 1. "
            "Save the pictures before any network's own scaling.",
            uri=uri,
        )
    if high <= 1:
        return 255.0, [f"features range from {low:g} to {high:g}: taken as 0 to 1 and multiplied by 255"]
    return 1.0, [] if whole else ["features hold fractions of levels: rounded to whole ones"]


def _batches(file: BinaryIO, uri: str) -> Iterator[NDArray[np.generic]]:
    header = read_header(file, origin=uri)["features"]
    row_bytes = max(1, header.num_bytes // max(1, header.shape[0]))
    return iterate_rows(file, "features", rows=max(1, BATCH_BYTES // row_bytes), origin=uri)


def _to_levels(row: NDArray[np.generic], scale: float) -> UInt8Image:
    levels = row if row.dtype == np.uint8 else np.rint(row.astype(np.float64) * scale)
    return levels.astype(np.uint8, copy=False)


def _encode_png(pixels: UInt8Image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
