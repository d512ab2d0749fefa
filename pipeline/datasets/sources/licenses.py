"""Licences of pictures: one code for each, however an API spells it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERSION = re.compile(r"\b([1-4]\.[0-9])\b")
_PARTS = ("by", "nc", "nd", "sa")
_KNOWN = frozenset({"by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd"})
_PUBLIC_DOMAIN = frozenset(
    {"pdm", "pd", "public domain", "public domain mark", "publicdomain", "no restrictions"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """A Creative Commons licence, or the public domain.

    Args:
        code: `cc0`, `pdm`, `by`, `by-sa`, ...
        version: `4.0` and the like, None if it was not stated.
    """

    code: str
    version: str | None = None

    @property
    def name(self) -> str:
        """Its name for people, e.g. `CC BY-SA 4.0`."""
        if self.code == "cc0":
            return "CC0 1.0"
        if self.code == "pdm":
            return "Public Domain Mark 1.0"
        return f"CC {self.code.upper()}" + (f" {self.version}" if self.version else "")

    @property
    def url(self) -> str | None:
        """Where it can be read; None without a version."""
        if self.code == "cc0":
            return "https://creativecommons.org/publicdomain/zero/1.0/"
        if self.code == "pdm":
            return "https://creativecommons.org/publicdomain/mark/1.0/"
        return f"https://creativecommons.org/licenses/{self.code}/{self.version}/" if self.version else None


def parse_license(text: str, version: str | None = None) -> License | None:
    """Return the licence that a text names, None for any other, or one with further words.

    Args:
        text: Such as `CC BY-SA 4.0`, `by-sa`, `CC0`, `Public domain`.
        version: If the API states it separately.
    """
    words = " ".join(text.lower().replace("_", "-").split())
    match = _VERSION.search(words)
    version = version or (match.group(1) if match else None)
    words = _VERSION.sub("", words).strip()
    if re.fullmatch(r"(cc[- ]?0|cc[- ]zero|zero)( universal)?", words):
        return License(code="cc0", version="1.0")
    if words.removeprefix("cc ").removeprefix("cc-") in _PUBLIC_DOMAIN:
        return License(code="pdm", version="1.0")
    parts = [part for part in re.split(r"[- ]", words.removeprefix("cc")) if part]
    code = "-".join(part for part in _PARTS if part in parts)
    if code not in _KNOWN or len(set(parts)) != len(parts) or not set(parts) <= set(_PARTS):
        return None
    return License(code=code, version=version)


def attribute(title: str | None, creator: str | None, license: License, page_url: str | None) -> str:
    """Return the line that credits a picture where it is shown."""
    shown = f'"{title}"' if title else "Picture"
    by = f" by {creator}" if creator else ""
    source = f", {page_url}" if page_url else ""
    return f"{shown}{by}, {license.name}{source}"
