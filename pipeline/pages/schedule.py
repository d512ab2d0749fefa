"""What the pages ask of the scheduler, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a classifier.

    Args:
        run_id: Its id, unique within its classifier.
        state: `queued`, `running`, `success` or `failed`.
        started: When it began to run.
        ended: When it ended.
    """

    run_id: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A classifier as the scheduler has it.

    Args:
        name: Its name.
        description: One line that says what it tells apart.
        schedule: When it retrains, in words or as a cron line; None for never.
        next_run: When the next run is due.
        is_paused: Whether the schedule is held.
        last_run: The newest run.
    """

    name: str
    description: str = ""
    schedule: str | None = None
    next_run: datetime | None = None
    is_paused: bool = False
    last_run: Run | None = None
