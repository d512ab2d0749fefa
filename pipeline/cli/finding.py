"""What a check of `graft doctor` tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check.

    Args:
        check: What was checked.
        state: `ok`, `note` (works, but worth knowing) or `broken`.
        detail: The result; for something broken, with the fix.
    """

    check: str
    state: str
    detail: str
