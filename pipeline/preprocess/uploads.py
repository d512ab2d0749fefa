"""Pictures that people send: checked as a run would check them, then kept by label and digest.

A file that is there already is not written again, whoever sent it, so an upload that was cut short is simply
sent once more.
"""

from __future__ import annotations

import hashlib
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from pipeline.artifacts.folders import MAX_FOLDER_BYTES, encode_label
from pipeline.artifacts.takedowns import read_takedowns
from pipeline.artifacts.uploads import Upload, UploadedFile, list_pictures
from pipeline.artifacts.workspace import Workspace
from pipeline.config.labels import normalize_label
from pipeline.config.sources import ArchiveSection
from pipeline.datasets.sources.archive import ArchiveSource
from pipeline.datasets.sources.source import SourceContext
from pipeline.errors import ConfigError, FetchRefused, UndecodableImage
from pipeline.pixels.conversion import convert_picture, name_format
from pipeline.pixels.host import decode_picture
from pipeline.preprocess.reasons import CONFLICTING_LABELS, REASONS, TAKEN_DOWN

MAX_PICTURES = 50_000  # of one classifier
MAX_PICTURE_BYTES = 15_000_000  # as `dataset.fetch.max_picture_bytes`
MAX_NAME = 200
MAX_LABEL = 200
RECENT_SECONDS = 60  # a batch that was recorded so long ago may still be written
BATCH_FILES, BATCH_BYTES = 40, 16_000_000  # of an archive, in memory together
TOO_LARGE, TOO_MANY, BAD_LABEL = "too_large", "too_many_pictures", "bad_label"
SPLIT_LOST = (
    "the archive's own split into training and test pictures is not kept; name it as a source to keep it"
)
TEXTS = {
    **REASONS,
    TOO_LARGE: f"more than {MAX_PICTURE_BYTES / 1e6:.0f} MB",
    TOO_MANY: f"the classifier has {MAX_PICTURES:,} uploaded pictures, the most there may be; name a folder "
    "or an archive as a source instead",
    CONFLICTING_LABELS: "the same file was uploaded for another class",
    TAKEN_DOWN: "it was taken down, and must not come back",
}
SUFFIXES = {"JPEG": "jpg", "JPEG XL": "jxl", "TIFF": "tif"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPicture:
    """A file as it arrives.

    Args:
        name: What it is called there; only for the record and for messages.
        data: Its bytes.
    """

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedPicture:
    """A file that is not taken.

    Args:
        name: What it is called.
        reason: A quarantine reason, or one of this module's.
        text: The reason in words.
    """

    name: str
    reason: str
    text: str


@dataclass(slots=True, kw_only=True)
class UploadResult:
    """What an upload did.

    Args:
        added: Pictures that are new.
        known: Pictures that were there.
        refused: Files that were not taken.
        statements: Facts that who sent them should know.
    """

    added: int = 0
    known: int = 0
    refused: list[RefusedPicture] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def add(self, other: UploadResult) -> None:
        """Add what another upload did."""
        self.added += other.added
        self.known += other.known
        self.refused += other.refused
        self.statements += other.statements


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    picture: NewPicture
    digest: str
    suffix: str


class UploadKeeper:
    """Takes pictures for one classifier, in batches of any size.

    Args:
        workspace: Where they are kept.
        classifier: Its name.
        by: Who sends them.
    """

    def __init__(self, workspace: Workspace, classifier: str, *, by: str) -> None:
        self._folder, self._storage = workspace.uploads(classifier), workspace.storage
        self._by = by
        cut = self._folder.record(_moment(datetime.now(UTC) - timedelta(seconds=RECENT_SECONDS)))
        self._seen = {uri for uri in self._storage.list_uris(self._folder.records) if uri < cut}
        pictures = list_pictures(self._folder)
        self._labels = {picture.digest: picture.label for picture in pictures}
        takedowns = read_takedowns(workspace.dataset(classifier))
        self._taken_down = {blob for takedown in takedowns for blob in takedown.blobs}

    def keep(self, label: str, pictures: Iterable[NewPicture]) -> UploadResult:
        """Keep the good ones of some pictures.

        Args:
            label: Their class.
            pictures: The files; they are in memory together.

        Raises:
            ConfigError: if the label cannot be one.
            StorageError: if a file cannot be written, as on a full disk. Those before it are kept.
        """
        label, result = check_label(label), UploadResult()
        wanted: list[_Checked] = []
        for picture in pictures:
            checked = self._check(label, picture, result)
            if checked is not None:
                self._labels[checked.digest] = label
                wanted.append(checked)
        if wanted:
            self._write(label, wanted, result)
        return result

    def _check(self, label: str, picture: NewPicture, result: UploadResult) -> _Checked | None:
        """Return a picture that is to be written; count one that is there, and refuse one that is bad."""
        digest = hashlib.sha256(picture.data).hexdigest()
        if self._labels.get(digest) == label:
            result.known += 1
            return None
        reason, suffix = self._find_reason(picture.data, digest), ""
        if not reason:
            reason, suffix = examine(picture.data)
        if reason:
            self._refuse(picture, reason, digest, result)
            return None
        return _Checked(picture=picture, digest=digest, suffix=suffix)

    def _refuse(self, picture: NewPicture, reason: str, digest: str, result: UploadResult) -> None:
        text = TEXTS.get(reason, reason)
        if reason == CONFLICTING_LABELS:
            text += f": {self._labels[digest]}"
        result.refused.append(RefusedPicture(name=clean_name(picture.name), reason=reason, text=text))

    def _find_reason(self, data: bytes, digest: str) -> str:
        if digest in self._labels:
            return CONFLICTING_LABELS
        if digest in self._taken_down:
            return TAKEN_DOWN
        if len(data) > MAX_PICTURE_BYTES:
            return TOO_LARGE
        return TOO_MANY if len(self._labels) >= MAX_PICTURES else ""

    def _write(self, label: str, wanted: Sequence[_Checked], result: UploadResult) -> None:
        now = datetime.now(UTC)
        files = tuple(
            UploadedFile(
                label=label,
                digest=each.digest,
                name=clean_name(each.picture.name),
                num_bytes=len(each.picture.data),
            )
            for each in wanted
        )
        record = Upload(by=self._by, at=now.isoformat(timespec="seconds"), files=files)
        record_uri = self._folder.record(f"{_moment(now)}-{uuid.uuid4().hex[:8]}")
        self._seen.add(record_uri)
        record.write(self._storage, record_uri)
        uris = {each.digest: self._folder.picture(label, each.digest, each.suffix) for each in wanted}
        new = {
            each.digest for each in wanted if self._storage.create_bytes(uris[each.digest], each.picture.data)
        }
        result.added += len(new)
        result.known += len(wanted) - len(new)
        self._withdraw(label, [each for each in wanted if each.digest in new], result)

    def _withdraw(self, label: str, written: Sequence[_Checked], result: UploadResult) -> None:
        """Take back and refuse what somebody sent for another class while it was written.

        Each writes the record, then the file, and then looks: of two who send the same file at the same time,
        one sees the other's, or both do. So no file stays with two labels, and who sent it is told.
        """
        others = self._read_others(label)
        for each in written:
            other = others.get(each.digest)
            if other and self._storage.exists(self._folder.picture(other, each.digest, each.suffix)):
                self._storage.delete(self._folder.picture(label, each.digest, each.suffix))
                self._labels[each.digest] = other
                result.added -= 1
                self._refuse(each.picture, CONFLICTING_LABELS, each.digest, result)

    def _read_others(self, label: str) -> dict[str, str]:
        """Return what was recorded for other classes since this began, or shortly before: label by digest."""
        others: dict[str, str] = {}
        for uri in self._storage.list_uris(self._folder.records):
            if uri not in self._seen:
                self._seen.add(uri)
                files = Upload.read(self._storage, uri).files
                others |= {file.digest: file.label for file in files if file.label != label}
        return others


def _moment(time: datetime) -> str:
    """Return what the names of records begin with, so that they are in order."""
    return f"{time:%Y%m%dT%H%M%S%f}"


def read_picture(path: Path) -> NewPicture:
    """Read a file; of one that is too large no more than proves it."""
    with path.open("rb") as file:
        return NewPicture(name=path.name, data=file.read(MAX_PICTURE_BYTES + 1))


def keep_archive(keeper: UploadKeeper, path: Path, context: SourceContext) -> Iterator[UploadResult]:
    """Keep the pictures of a zip or tar by its class folders or list; yield what each batch of them did.

    Args:
        keeper: Takes the pictures.
        path: The archive.
        context: As for a source of type `archive`, which reads it.

    Raises:
        DatasetError: if it is no archive, has no class, or passes a limit.
    """
    source = ArchiveSource(ArchiveSection(type="archive", uri=str(path)), replace(context, is_alone=False))
    batch: list[NewPicture] = []
    label, size, has_split = "", 0, False
    for entry in source.entries(0, 1):
        name, has_split = unquote(entry.source_url.rpartition("#")[2]), has_split or entry.split is not None
        if entry.label != label or size > BATCH_BYTES or len(batch) == BATCH_FILES:
            yield from _keep_batch(keeper, label, batch)
            label, size = entry.label, 0
        try:
            if entry.refused is not None or entry.read is None:
                raise FetchRefused("", reason=str(entry.refused))
            batch.append(NewPicture(name=name, data=entry.read()))
            size += len(batch[-1].data)
        except FetchRefused as error:
            refused = RefusedPicture(name=clean_name(name), reason=str(error.reason), text=error.message)
            yield UploadResult(refused=[refused])
    yield from _keep_batch(keeper, label, batch)
    yield UploadResult(statements=[*source.statements, *([SPLIT_LOST] if has_split else [])])


def _keep_batch(keeper: UploadKeeper, label: str, batch: list[NewPicture]) -> Iterator[UploadResult]:
    if batch:
        try:
            yield keeper.keep(label, batch)
        except ConfigError as error:  # the name of a folder that can be no class
            names = [clean_name(each.name) for each in batch]
            refused = [RefusedPicture(name=name, reason=BAD_LABEL, text=error.message) for name in names]
            yield UploadResult(refused=refused)
        batch.clear()


def check_label(text: str) -> str:
    """Return a label as it is kept.

    Raises:
        ConfigError: if it is empty, too long, or holds characters that are not shown.
    """
    label = normalize_label(text)
    hidden = [character for character in label if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn")]
    if not label or hidden:
        raise ConfigError(f"A class needs a name of visible characters. Received: {text[:80]!r}")
    if len(label) > MAX_LABEL or len(encode_label(label).encode()) > MAX_FOLDER_BYTES:
        raise ConfigError(
            f"The name of a class has at most {MAX_LABEL} characters, and {MAX_FOLDER_BYTES} bytes as a "
            f"folder. Received: {label[:40]!r}... of {len(label)}"
        )
    return label


def examine(data: bytes) -> tuple[str, str]:
    """Return why a run would leave a picture out, empty if it would not; and the suffix of its format."""
    conversion = convert_picture(data)
    try:
        decode_picture(data if conversion is None else conversion.data)
    except UndecodableImage as error:
        return str(error.reason), ""
    format = name_format(data) or ""
    return "", SUFFIXES.get(format, format.lower())


def clean_name(name: str) -> str:
    """Return the last part of a file's name, shortened and of visible characters: it is only looked at."""
    last = name.replace("\\", "/").rpartition("/")[2]
    text = "".join(
        each if unicodedata.category(each)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for each in last
    )
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"
