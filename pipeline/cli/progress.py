"""The stages of a run as they go: a table that redraws itself on a terminal, one line a change elsewhere.

While pictures are downloaded a bar under the table says how many and how fast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.cli.output import print_note

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table

    from pipeline.airflow_api import TaskInstance
    from pipeline.datasets.progress import FetchCounts

STAGES = (
    *("settle", "fetch", "clean", "pack", "tune", "train", "evaluate", "gate", "approve"),
    *("create_version", "smoke_test", "promote", "publish"),
)
# Of several mapped task instances the first state in this order is the stage's.
PRECEDENCE = (
    *("failed", "upstream_failed", "running", "deferred", "awaiting_input"),
    *(
        "up_for_retry",
        "up_for_reschedule",
        "restarting",
        "queued",
        "scheduled",
        "removed",
        "success",
        "skipped",
    ),
)
COLOURS = {
    "success": "green",
    "failed": "red",
    "upstream_failed": "red",
    "running": "cyan",
    "deferred": "cyan",
    "awaiting_input": "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One task of the run with all its mapped instances.

    Args:
        name: The task id.
        state: Airflow's state; `waiting` before it is scheduled.
        seconds: From the first instance's start to the last one's end, or until now; None before the start.
    """

    name: str
    state: str
    seconds: float | None


def summarise_stages(instances: Iterable[TaskInstance], *, now: datetime | None = None) -> list[Stage]:
    """Fold task instances into stages, in the order of the pipeline."""
    by_name: dict[str, list[TaskInstance]] = {}
    for instance in instances:
        by_name.setdefault(instance.task_id, []).append(instance)
    names = [name for name in STAGES if name in by_name] + sorted(set(by_name) - set(STAGES))
    return [_fold(name, by_name[name], now or datetime.now(UTC)) for name in names]


def _fold(name: str, instances: list[TaskInstance], now: datetime) -> Stage:
    states = {instance.state for instance in instances}
    state = next((state for state in PRECEDENCE if state in states), "waiting")
    if state == "success" and None in states:
        state = "running"
    starts = [each.started for each in instances if each.started]
    if not starts or state in ("skipped", "upstream_failed"):
        return Stage(name=name, state=state, seconds=None)
    ends = [each.ended for each in instances if each.ended]
    end = max(ends) if len(ends) == len(instances) else now
    return Stage(name=name, state=state, seconds=round((end - min(starts)).total_seconds(), 3))


class RunProgress:
    """Shows stages on stderr while a run goes on; use it as a context manager."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._counts: FetchCounts | None = None
        self._live: Live | None = None

    def __enter__(self) -> RunProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, stages: list[Stage], fetched: FetchCounts | None = None) -> None:
        """Show the stages as they are now, and how the downloads go."""
        if self._live is not None:
            self._live.update(_draw(stages, fetched))
            return
        if fetched is not None and fetched != self._counts:
            self._counts = fetched
            print_note(f"  {'fetch':<15} {fetched}")
        for stage in stages:
            if stage.state != "waiting" and self._shown.get(stage.name) != stage.state:
                self._shown[stage.name] = stage.state
                seconds = "" if stage.seconds is None else f"  {stage.seconds:.1f} s"
                print_note(f"  {stage.name:<15} {stage.state}{seconds}")


def _draw(stages: list[Stage], fetched: FetchCounts | None) -> Group:
    from rich.console import Group

    if fetched is None:
        return Group(_draw_table(stages))
    is_done = any(stage.name == "fetch" and stage.state in ("success", "failed") for stage in stages)
    return Group(_draw_table(stages), _draw_bar(fetched, is_done=is_done))


def _draw_bar(fetched: FetchCounts, *, is_done: bool) -> Table:
    """Draw a bar that moves until the end: the number of pictures is not known beforehand."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    bar = ProgressBar(total=1 if is_done else None, completed=int(is_done), pulse=not is_done, width=12)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, str(fetched))
    return line


def _draw_table(stages: list[Stage]) -> Table:
    from rich.table import Table

    table = Table("stage", "state", "seconds", box=None, pad_edge=False)
    for stage in stages:
        colour = COLOURS.get(stage.state, "dim")
        seconds = "" if stage.seconds is None else f"{stage.seconds:.1f}"
        table.add_row(stage.name, f"[{colour}]{stage.state}[/{colour}]", seconds)
    return table
