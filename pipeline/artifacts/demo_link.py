"""Links to the demo page of a classifier: who made each, and the digest of its key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import ClassVar

from pipeline.artifacts.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLink(Record):
    """A link that opens the demo page of one classifier, until it is revoked.

    Args:
        id: Names it in lists and when it is revoked; the first part of its key.
        name: Who or what it is for.
        by: The user who made it.
        created: When, in ISO 8601.
        key_sha256: Digest of its key. The key itself is kept nowhere.
    """

    FORMAT: ClassVar[int | None] = 1

    id: str
    name: str
    by: str
    created: str
    key_sha256: str

    def opens_with(self, key: str) -> bool:
        """Return True if a key is that of this link; takes the same time for every wrong one."""
        return hmac.compare_digest(key_digest(key), self.key_sha256)


def key_digest(key: str) -> str:
    """Return the digest that is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
