"""`graft logs`: what a job or the tasks of a run have printed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.connection import connect_airflow, connect_engine, require_stack
from pipeline.cli.output import JsonOption, UsageError, print_json, print_line
from pipeline.cli.progress import STAGES

if TYPE_CHECKING:
    from pipeline.airflow_api import AirflowApi, RunReference, TaskInstance
    from pipeline.ml_engine.protocol import MLEngine

POLL_SECONDS = 1.0
ENDED = ("success", "failed")
GROUPS = ("::group::", "::endgroup::")  # marks of Airflow's own page

TargetArgument = Annotated[str, typer.Argument(metavar="RUN|JOB", help="The id of a run or of a job.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run or job has ended.")]
ClassifierOption = Annotated[
    str | None,
    typer.Option("--classifier", metavar="NAME", help="Whose run; where several have one of this id."),
]


def logs(
    target: TargetArgument,
    follow: FollowOption = False,
    classifier: ClassifierOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a job or the tasks of a run have printed. Ctrl-C stops following, not the run."""
    stack = require_stack()
    engine = connect_engine(stack)
    if engine.get_job(target) is not None:
        lines = read_job(engine, target, follow=follow)
    else:
        api = connect_airflow(stack)
        lines = RunLog(api, find_run(api, target, classifier)).read(follow=follow)
    if as_json:
        print_json({"id": target, "lines": list(lines)})
        return
    for line in lines:
        print_line(line)


def read_job(engine: MLEngine, job_id: str, *, follow: bool) -> Iterator[str]:
    """Yield the lines that a job has printed; when following, until it has ended."""
    offset, rest = 0, ""
    while True:
        log = engine.read_job_log(job_id, offset=offset)
        *lines, rest = (rest + log.text).split("\n")
        yield from lines
        if log.is_complete or (not follow and log.next_offset == offset):
            break
        if log.next_offset == offset:
            time.sleep(POLL_SECONDS)
        offset = log.next_offset
    if rest:
        yield rest


def find_run(api: AirflowApi, run_id: str, classifier: str | None) -> RunReference:
    """Return the run of this id.

    Raises:
        UsageError: if there is none, or several classifiers have one.
    """
    runs = api.find_runs(run_id, dag_id=classifier)
    if not runs:
        whose = f" of {classifier}" if classifier else ""
        raise UsageError(
            f"There is no job and no run{whose} named {run_id!r}. The page of a classifier lists "
            "its runs: `graft open NAME`."
        )
    if len(runs) > 1:
        names = ", ".join(run.dag_id for run in runs)
        raise UsageError(f"Several classifiers have a run {run_id}: {names}. Add --classifier NAME.")
    return runs[0]


class RunLog:
    """The logs of a run's tasks, each line after the name of its task.

    Args:
        api: Gives the logs.
        run: The run.
    """

    def __init__(self, api: AirflowApi, run: RunReference) -> None:
        self._api, self._run = api, run
        self._num_read: dict[tuple[str, int, int], int] = {}
        self._complete: set[tuple[str, int, int]] = set()

    def read(self, *, follow: bool) -> Iterator[str]:
        """Yield what the tasks have printed; when following, until the run has ended."""
        while True:
            state = self._api.run_state(self._run.dag_id, self._run.run_id)
            tasks = self._api.task_instances(self._run.dag_id, self._run.run_id)
            for task in sorted(tasks, key=_place):
                yield from self._read_task(task)
            if not follow or state in ENDED:
                return
            time.sleep(POLL_SECONDS)

    def _read_task(self, task: TaskInstance) -> Iterator[str]:
        key = (task.task_id, task.map_index, task.try_number)
        if task.started is None or key in self._complete:
            return
        events = self._api.task_log(task)
        name = task.task_id if task.map_index < 0 else f"{task.task_id} {task.map_index}"
        for event in events[self._num_read.get(key, 0) :]:
            if event.text.startswith(GROUPS):
                continue
            yield f"{name} | {event.text}" + (f"\n{name} | {event.error}" if event.error else "")
        self._num_read[key] = len(events)
        if task.ended is not None:
            self._complete.add(key)


def _place(task: TaskInstance) -> tuple[int, str, int]:
    stage = STAGES.index(task.task_id) if task.task_id in STAGES else len(STAGES)
    return stage, task.task_id, task.map_index
