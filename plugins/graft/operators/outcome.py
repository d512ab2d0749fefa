"""What the last task of a run leaves behind: the summary in the bucket and the note in the UI."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import DownstreamTasksSkipped

from graft.hooks.airflow_api import AirflowApiHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from graft.operators.base import GraftOperator
    from pipeline.evaluate.gate import GateDecision
    from pipeline.types import JsonDict


def finish_run(operator: GraftOperator, context: Context, summary: JsonDict, decision: GateDecision) -> str:
    """Write the summary of a run that ends here, and its note; return the summary's URI."""
    from pipeline.deploy.summary import RunState, data_gate_lines, run_note, write_summary

    uri = write_summary(operator.storage, operator.workspace, summary)
    note = run_note(RunState(summary["state"]), decision, summary["version"])
    _write_note(context, "\n\n".join([note, *data_gate_lines(summary)]))
    return uri


def finish_skipped_run(operator: GraftOperator, context: Context, summary: JsonDict) -> str:
    """Write the summary of a run that the data gate ends, and its note; return the summary's URI."""
    from pipeline.deploy.summary import data_gate_lines, write_summary

    uri = write_summary(operator.storage, operator.workspace, summary)
    text = "**Skipped by the data gate; nothing was trained.**"
    _write_note(context, "\n\n".join([text, *data_gate_lines(summary)]))
    return uri


def _write_note(context: Context, note: str) -> None:
    AirflowApiHook().write_run_note(context["ti"].dag_id, context["ti"].run_id, note)


def skip_what_follows(operator: GraftOperator) -> DownstreamTasksSkipped:
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
