"""The pictures that people uploaded for a classifier, by the label that each was uploaded for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.artifacts.integrity import damaged
from pipeline.artifacts.provenance import Provenance
from pipeline.artifacts.uploads import UploadedPicture, list_pictures
from pipeline.config.sources import UploadsSection
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import EmptyDataset
from pipeline.types import JsonObject


class UploadsSource:
    """Every uploaded picture of the labels that are wanted; the file's digest proves that it is unchanged.

    Args:
        section: The source's section.
        context: Where the uploads are.
    """

    def __init__(self, section: UploadsSection, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._section = section
        self._context = context

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th picture, sorted by label and digest.

        Raises:
            EmptyDataset: if nothing was uploaded although there is no other source, or a listed class is
                without a picture.
        """
        pictures = self._choose(chunk)
        for position, picture in enumerate(pictures):
            if position % num_chunks == chunk:
                yield SourceEntry(
                    position=position,
                    label=self._section.label or picture.label,
                    provenance=Provenance(source_url=picture.uri),
                    validator=picture.digest,
                    read=lambda picture=picture: self._read(picture),  # type: ignore[misc]
                )

    def _choose(self, chunk: int) -> Sequence[UploadedPicture]:
        pictures = [] if self._context.uploads is None else list_pictures(self._context.uploads)
        if not pictures and self._context.is_alone:
            raise EmptyDataset(
                "nothing was uploaded yet; add pictures on the classifier's page *Add pictures*, or with "
                "`graft dataset add NAME LABEL PATH`."
            )
        wanted = self._section.classes
        if wanted is None or self._section.label is not None:
            return pictures
        counts = Counter(picture.label for picture in pictures)
        if missing := [label for label in wanted if not counts[label]]:
            raise EmptyDataset(
                f"no picture was uploaded for {', '.join(map(repr, missing))}, which `classes` lists; add "
                f"some with `graft dataset add`, or correct `classes`. Uploaded: "
                f"{', '.join(sorted(counts)) or 'none'}",
                classes=missing,
            )
        unwanted = [f"{label} ({count})" for label, count in sorted(counts.items()) if label not in wanted]
        if chunk == 0 and unwanted:
            self.statements.append(f"uploads left out, whose classes are not listed: {', '.join(unwanted)}")
        return [picture for picture in pictures if picture.label in wanted]

    def _read(self, picture: UploadedPicture) -> bytes:
        data = self._context.storage.read_bytes(picture.uri)
        if hashlib.sha256(data).hexdigest() != picture.digest:
            raise damaged(picture.uri, "its bytes have another SHA-256 than its name says")
        self.transferred += 1
        return data
