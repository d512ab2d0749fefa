"""What people call a run of Airflow: when and by what it was started."""

from __future__ import annotations

import re
from datetime import UTC, datetime

STARTED_BY = {
    "manual": "by hand",
    "scheduled": "by schedule",
    "asset_triggered": "by new pictures",
    "backfill": "by backfill",
}
_RUN_ID = re.compile(rf"({'|'.join(STARTED_BY)})__(.+?)(?:_[0-9A-Za-z]+)?")  # random letters end some of them


def run_name(run_id: str) -> str:
    """Return when and by what a run was started; an id that somebody gave stays as it is."""
    match = _RUN_ID.fullmatch(run_id)
    try:
        time = datetime.fromisoformat(match[2]) if match else None
    except ValueError:
        time = None
    if match is None or time is None:
        return run_id
    return f"{time.astimezone(UTC):%-d %b %Y %H:%M}, {STARTED_BY[match[1]]}"
