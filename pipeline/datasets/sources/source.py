"""The seam between `fetch` and the places pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.artifacts.folders import FeedbackFolder, UploadFolder
from pipeline.artifacts.provenance import Provenance
from pipeline.datasets.fetcher import FetchPolicy, FetchReason
from pipeline.datasets.sources.secrets import find_secret
from pipeline.storage import Storage
from pipeline.types import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """One picture of a source, not read yet.

    Args:
        position: Its place in source order, over all chunks.
        label: Its class.
        provenance: Where it comes from, and on which terms. Its `source_url` and the validator decide whether
            the bytes must be read again.
        validator: Changes when the bytes may have changed; of a `url`, when another rule holds.
        read: Reads the bytes of the picture file, or refuses it by `FetchRefused`; None if there is a `url`.
        url: Where the picture is to be downloaded from.
        obeys_robots: Whether robots.txt has a say.
        min_side: Pixels that the shorter side must have.
        refused: Why the source itself does not give this picture.
        split: The part of the source's own split, `train`, `validation` or `test`; None without a test part.
        group: Pictures that must not straddle the split share one; None where the source knows of none.
    """

    position: int
    label: str
    provenance: Provenance
    validator: str
    read: Callable[[], bytes] | None = None
    url: str | None = None
    obeys_robots: bool = False
    min_side: int = 1
    refused: FetchReason | None = None
    group: str | None = None
    split: str | None = None

    @property
    def source_url(self) -> str:
        """Where its bytes are, without passwords and keys."""
        return self.provenance.source_url


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContext:
    """What a source works with.

    Args:
        storage: Reads paths and `gs://` URIs.
        previous: The notes that the same source left the last time, empty before the first.
        policy: How the network may be used.
        is_alone: Whether the dataset has no other source.
        may_descend: Whether a single folder is looked into for class folders: no other source but uploads.
        uploads: Where people's uploads for this classifier lie.
        feedback: Where the pictures lie whose answers were wrong.
        is_full: Says whether a class has as many pictures as are wanted.
        find_secret: Returns the key that a connection holds.
    """

    storage: Storage
    previous: JsonObject
    policy: FetchPolicy
    is_alone: bool = True
    may_descend: bool = True
    uploads: UploadFolder | None = None
    feedback: FeedbackFolder | None = None
    is_full: Callable[[str], bool] = lambda label: False
    find_secret: Callable[[str], str] = find_secret


class ImageSource(Protocol):
    """A place that pictures come from.

    Attributes:
        transferred: Files read from the source so far: a picture file, an archive, a photograph.
        notes: Its own state for the next run, plain JSON values.
        statements: Facts that a reader of the dataset card should know.
    """

    transferred: int
    notes: JsonObject
    statements: list[str]

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield this chunk's part of the entries; all chunks together yield each exactly once.

        Raises:
            DatasetError: if the source as a whole cannot give a dataset. Raised before the first entry.
        """
