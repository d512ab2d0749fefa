"""The seam between `fetch` and the places pictures come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """One picture of a source, not read yet.

    Args:
        position: Its place in source order, over all chunks.
        label: Its class.
        source_url: Where its bytes are; with `validator` it decides whether they must be read again.
        validator: Changes when the bytes may have changed.
        read: Reads the bytes of the picture file.
        group: Pictures that must not straddle the split share one; None where the source knows of none.
        page_url: The page that shows the picture to people.
        creator: Who made it.
        license: Name of its licence.
        license_url: Where the licence is to be read.
    """

    position: int
    label: str
    source_url: str
    validator: str
    read: Callable[[], bytes]
    group: str | None = None
    page_url: str | None = None
    creator: str | None = None
    license: str | None = None
    license_url: str | None = None


class ImageSource(Protocol):
    """A place that pictures come from.

    Attributes:
        transferred: Files read from the source so far: a picture file, an archive, a photograph.
        notes: What the source wants to be given back the next time, plain JSON values.
        statements: What it found out and a reader of the dataset card should know.
    """

    transferred: int
    notes: JsonDict
    statements: list[str]

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield this chunk's part of the entries; all chunks together yield each exactly once.

        Raises:
            DatasetError: if the source as a whole cannot give a dataset. Raised before the first entry.
        """
