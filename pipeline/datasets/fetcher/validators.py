"""What proves that a file has not changed since it was last read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server, or a file system, says of a file's state.

    Args:
        etag: The ETag header.
        last_modified: The Last-Modified header, or the file's time.
        length: Size in bytes.
    """

    etag: str | None = None
    last_modified: str | None = None
    length: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Validators:
        """Read the headers of an answer; their names in any case."""
        length = headers.get("content-length", "")
        return cls(
            etag=headers.get("etag"),
            last_modified=headers.get("last-modified"),
            length=int(length) if length.isascii() and length.isdigit() else None,
        )

    def same_file_as(self, other: Validators) -> bool:
        """Return True if both prove the same bytes; without an ETag or a time nothing is proven."""
        if None not in (self.length, other.length) and self.length != other.length:
            return False
        if self.etag or other.etag:
            return self.etag == other.etag
        return self.last_modified is not None and self.last_modified == other.last_modified

    @property
    def prove_something(self) -> bool:
        """True if there is anything to compare."""
        return bool(self.etag or self.last_modified)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the file only if it is another one."""
        pairs = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in pairs.items() if value}

    @property
    def range_condition(self) -> str | None:
        """What `If-Range` may carry: a strong ETag, else the time."""
        if self.etag:
            return None if self.etag.startswith("W/") else self.etag
        return self.last_modified
