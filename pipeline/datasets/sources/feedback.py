"""The pictures whose answers were wrong, with the labels that a person confirmed; they only train."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pipeline.artifacts.feedback import Feedback, list_feedback
from pipeline.artifacts.fetch_index import TRAIN_ONLY
from pipeline.artifacts.integrity import damaged
from pipeline.artifacts.provenance import Provenance
from pipeline.config.sources import FeedbackSection
from pipeline.datasets.sources.source import SourceContext, SourceEntry
from pipeline.errors import EmptyDataset
from pipeline.types import JsonObject


class FeedbackSource:
    """Every confirmed picture; the digest in its name proves that it is unchanged.

    Args:
        section: The source's section.
        context: Where the feedback is.
    """

    def __init__(self, section: FeedbackSection, context: SourceContext) -> None:
        self.transferred = 0
        self.notes: JsonObject = {}
        self.statements: list[str] = []
        self._section = section
        self._context = context

    def entries(self, chunk: int, num_chunks: int) -> Iterator[SourceEntry]:
        """Yield every num_chunks-th confirmed picture, the oldest first.

        Raises:
            EmptyDataset: if there is no other source: feedback cannot test.
        """
        if self._context.is_alone:
            raise EmptyDataset("feedback only trains; list another source in `dataset.sources` before it.")
        folder, wanted = self._context.feedback, self._section.classes
        if folder is None:
            return
        records = list_feedback(folder)
        confirmed = [each for each in records if each.confirmed and (wanted is None or each.label in wanted)]
        for position, record in enumerate(confirmed):
            if position % num_chunks == chunk:
                yield self._entry(record, folder.picture(record.id), position)

    def _entry(self, record: Feedback, uri: str, position: int) -> SourceEntry:
        return SourceEntry(
            position=position,
            label=self._section.label or record.label,
            provenance=Provenance(source_url=uri, creator=record.who or None),
            validator=record.id,
            read=lambda: self._read(uri, record.id),
            split=TRAIN_ONLY,
        )

    def _read(self, uri: str, id: str) -> bytes:
        data = self._context.storage.read_bytes(uri)
        if hashlib.sha256(data).hexdigest() != id:
            raise damaged(uri, "its bytes have another SHA-256 than its name says")
        self.transferred += 1
        return data
