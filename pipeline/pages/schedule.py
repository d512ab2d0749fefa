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
        note: What the run says of itself.
    """

    run_id: str
    state: str
    started: datetime | None = None
    ended: datetime | None = None
    note: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a run; a mapped step has several.

    Args:
        step: The step that it belongs to, such as `fetch`.
        state: The scheduler's word, such as `running`; empty while it is not scheduled.
        started: When its latest try began.
        ended: When it ended.
        map_index: Its number among the tasks of a mapped step; -1 of any other.
        tries: How often it was begun.
    """

    step: str
    state: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    map_index: int = -1
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A run that waits for a person.

    Args:
        name: The classifier.
        run_id: The run.
        task_id: The task that asks.
        asked: Since when.
        approvers: Who may answer; empty for everybody who may change the classifier.
    """

    name: str
    run_id: str
    task_id: str
    asked: datetime
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """A classifier's file that the scheduler could not read.

    Args:
        file: Its name.
        error: What is wrong, in one paragraph.
    """

    file: str
    error: str
