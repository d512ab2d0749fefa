"""What people say of wrong answers, as the engine keeps it: pictures with the labels they should have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from pipeline.artifacts.folders import FeedbackFolder
from pipeline.artifacts.record import Record

_RECORD = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Record):
    """A picture whose answer was wrong.

    Args:
        id: SHA-256 of its file.
        label: The label it should have.
        origin: The program that said so: `page`, `api`; `traffic` for a logged answer nobody judged yet.
        who: The person, or whose token was sent; may be empty.
        request_id: Of the request that brought it.
        at: When, in ISO 8601.
        confirmed: What a person decided; None while it waits.
        decided_by: Who decided.
        decided_at: When, in ISO 8601.
        score: Of live traffic: the probability of the label, as it was answered.
        novelty: Of live traffic: how unlike the training pictures the picture is.
    """

    FORMAT: ClassVar[int | None] = 1

    id: str
    label: str
    origin: str
    who: str
    request_id: str
    at: str
    confirmed: bool | None = None
    decided_by: str = ""
    decided_at: str = ""
    score: float | None = None
    novelty: float | None = None


def list_feedback(folder: FeedbackFolder) -> list[Feedback]:
    """Return every record, the oldest first."""
    start = folder.file("")
    uris = [uri for uri in folder.storage.list_uris(start) if _RECORD.fullmatch(uri.removeprefix(start))]
    records = (Feedback.read(folder.storage, uri) for uri in uris)
    return sorted(records, key=lambda record: (record.at, record.id))
