"""What the last task of a run leaves behind: the summary in the bucket and the note in the UI."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sized
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk.exceptions import DownstreamTasksSkipped

from graft.hooks.airflow_api import AirflowApiHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.workspace import Workspace
    from pipeline.deploy.approval import Approval
    from pipeline.evaluate.gate import GateDecision
    from pipeline.types import JsonDict


class Step(Protocol):
    """A task that may be the last one of a run."""

    @property
    def log(self) -> Any:
        """The task's log."""

    @property
    def workspace(self) -> Workspace:
        """The bucket of runs."""

    def get_flat_relatives(self, upstream: bool = False) -> Collection[Any]:
        """Return every task after this one, or before it."""


def finish_run(
    operator: Step,
    context: Context,
    summary: JsonDict,
    decision: GateDecision,
    approval: Approval | None = None,
) -> str:
    """Write the summary of a run that ends here, and its note; return the summary's URI."""
    from pipeline.deploy.summary import RunState, run_note

    if approval is not None:
        gate = {**summary["gate"], "approval": approval.to_dict()}
        summary = {**summary, "gate": gate}
    note = run_note(RunState(summary["state"]), decision, summary["version"], approval)
    return _finish(operator, context, summary, note)


def finish_skipped_run(operator: Step, context: Context, summary: JsonDict) -> str:
    """Write the summary of a run that the data gate ends, and its note; return the summary's URI."""
    return _finish(operator, context, summary, "**Skipped by the data gate; nothing was trained.**")


def finish_unchanged_run(operator: Step, context: Context, summary: JsonDict) -> str:
    """Write the summary of a run that has nothing new to train on, and its note; return the summary's URI."""
    operator.log.info("%s", summary["reason"])
    reason = str(summary["reason"]).removeprefix("nothing new: ")
    return _finish(operator, context, summary, f"**Nothing new; nothing was trained.**\n\n{reason}.")


def _finish(operator: Step, context: Context, summary: JsonDict, note: str) -> str:
    from pipeline.deploy.summary import data_gate_lines, write_summary

    summary = {**summary, "ended_by": context["ti"].task_id}
    uri = write_summary(operator.workspace.storage, operator.workspace.uri, summary)
    _write_note(context, "\n\n".join([note, *data_gate_lines(summary)]))
    return uri


def _write_note(context: Context, note: str) -> None:
    AirflowApiHook().write_run_note(context["ti"].dag_id, context["ti"].run_id, note)


def skip_what_follows(operator: Step) -> DownstreamTasksSkipped:
    """Return the exception that ends this task green and skips every task after it at once."""
    tasks = sorted(operator.get_flat_relatives(upstream=False), key=lambda task: task.task_id)
    following = [instance for task in tasks for instance in _list_instances(task)]
    return DownstreamTasksSkipped(tasks=following)  # type: ignore[no-untyped-call]


def _list_instances(task: Any) -> list[str | tuple[str, int]]:
    """Return the instances of a task: one mapped over literal lists has them all since the run began."""
    lists = getattr(getattr(task, "expand_input", None), "value", None)
    if not isinstance(lists, Mapping) or not all(isinstance(values, Sized) for values in lists.values()):
        return [task.task_id]
    return [(task.task_id, index) for index in range(math.prod(len(values) for values in lists.values()))]
