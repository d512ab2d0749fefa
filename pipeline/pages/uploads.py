"""What the page *Add pictures* shows and takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.uploads import Upload, list_pictures
from pipeline.config import Settings
from pipeline.datasets.fetcher import FetchPolicy
from pipeline.datasets.sources.source import SourceContext
from pipeline.pages.appended_source import has_source
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.preprocess.uploads import NewPicture, UploadKeeper, UploadResult, keep_archive

SHOWN_UPLOADS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadView:
    """The uploads of a classifier.

    Args:
        classes: The classes of its pictures and of its uploads, with the number of uploads.
        uploads: The last ones, newest first.
        is_source: Whether its file names uploads as a source; None if it has no file.
    """

    classes: dict[str, int]
    uploads: Sequence[Upload]
    is_source: bool | None

    @property
    def total(self) -> int:
        """How many pictures were uploaded."""
        return sum(self.classes.values())


def view_uploads(cache: ArtifactCache, name: str, settings: Settings) -> UploadView:
    """Return what was uploaded for a classifier."""
    folder = cache.workspace.uploads(name)
    counts = Counter(picture.label for picture in list_pictures(folder))
    info = cache.latest_dataset(name)
    labels = dict.fromkeys([*(info.classes if info else ()), *sorted(counts)])
    records = cache.storage.list_uris(folder.records)[-SHOWN_UPLOADS:]
    return UploadView(
        classes={label: counts[label] for label in labels},
        uploads=[Upload.read(cache.storage, uri) for uri in reversed(records)],
        is_source=has_source(name, "uploads", settings),
    )


def read_digests(cache: ArtifactCache, name: str) -> dict[str, list[str]]:
    """Return the SHA-256 of every uploaded file by label: what need not be sent again."""
    digests: dict[str, list[str]] = {}
    for picture in list_pictures(cache.workspace.uploads(name)):
        digests.setdefault(picture.label, []).append(picture.digest)
    return digests


def add_pictures(
    cache: ArtifactCache, name: str, label: str, pictures: Iterator[NewPicture], *, by: str
) -> UploadResult:
    """Keep pictures of one class."""
    return UploadKeeper(cache.workspace, name, by=by).keep(label, pictures)


def add_archive(cache: ArtifactCache, name: str, path: Path, *, by: str) -> Iterator[UploadResult]:
    """Keep the pictures of an archive; yield what each batch did."""
    context = SourceContext(storage=cache.storage, previous={}, policy=FetchPolicy.from_environment())
    yield from keep_archive(UploadKeeper(cache.workspace, name, by=by), path, context)
