"""Where a picture comes from, and on which terms."""

from __future__ import annotations

from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from pipeline.artifacts.codec import build_record
from pipeline.types import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Origin and terms of one picture, as its source states them.

    Args:
        source_url: Where its bytes are; without passwords and keys.
        page_url: The page that shows the picture to people.
        creator: Who made it.
        license: Name of its licence.
        license_url: Where the licence can be read.
        attribution: The credit line to show with it.
    """

    source_url: str
    page_url: str | None = None
    creator: str | None = None
    license: str | None = None
    license_url: str | None = None
    attribution: str | None = None

    @property
    def origin(self) -> str:
        """The host or bucket, or the kind of address if there is none."""
        parts = urlsplit(self.source_url)
        return parts.netloc.rpartition("@")[2] or parts.scheme

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values; rows hold them beside their own."""
        return {name: getattr(self, name) for name in PROVENANCE_FIELDS}

    @classmethod
    def from_dict(cls, value: JsonObject) -> Provenance:
        """Read the fields of a row that are provenance."""
        return build_record(cls, {name: value[name] for name in PROVENANCE_FIELDS if name in value})


PROVENANCE_FIELDS = tuple(field.name for field in fields(Provenance))
