"""The end of a run: its summary in the bucket, its note in the UI, and the tasks that are skipped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import DownstreamTasksSkipped

from graft.hooks.airflow_api import AirflowApiHook
from graft.operators.base import open_workspace

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import Operator

    from pipeline.artifacts.gate import GateDecision
    from pipeline.artifacts.model_record import Approval
    from pipeline.artifacts.record import Record
    from pipeline.artifacts.run_summary import RunSummary


def finish_run(context: Context, summary: RunSummary, note: str) -> str:
    """Write the summary of a run that ends with this task, and the run's note.

    Returns:
        The summary's URI.
    """
    from pipeline.artifacts.run_summary import write_summary

    ti = context["ti"]
    uri = write_summary(open_workspace(), replace(summary, ended_by=ti.task_id))
    write_note(context, note, [*summary.data_gate_lines, *summary.gate_preview])
    return uri


def write_note(context: Context, note: str, lines: Iterable[str]) -> None:
    """Write the note of a run, which the UI shows: a paragraph each."""
    ti = context["ti"]
    AirflowApiHook().write_run_note(ti.dag_id, ti.run_id, "\n\n".join([note, *lines]))


def finish_decided_run(
    context: Context, summary: RunSummary, decision: GateDecision, approval: Approval | None = None
) -> str:
    """Finish a run that got as far as the gate; return the summary's URI."""
    from pipeline.deploy.run_summary import run_note

    if approval is not None and summary.gate is not None:
        summary = replace(summary, gate=replace(summary.gate, approval=approval))
    return finish_run(context, summary, run_note(summary.state, decision, summary.version, approval))


def skip_rest(operator: BaseOperator, context: Context, result: Record) -> DownstreamTasksSkipped:
    """Return the exception that ends a task green, with its result, and skips every task after it at once."""
    return skip_tasks(context, result, operator.get_flat_relatives(upstream=False))


def skip_tasks(context: Context, result: Record, tasks: Iterable[Operator]) -> DownstreamTasksSkipped:
    """Return the exception that ends a task green, with its result, and skips some of the tasks after it."""
    context["ti"].xcom_push(key="return_value", value=result.to_dict())
    tasks = sorted(tasks, key=lambda task: task.task_id)
    following = [instance for task in tasks for instance in _list_instances(task)]
    return DownstreamTasksSkipped(tasks=following)  # type: ignore[no-untyped-call]


def _list_instances(task: Operator) -> list[str | tuple[str, int]]:
    """Return the instances of a task; those of one mapped over literal lists exist since the run began."""
    lists = getattr(getattr(task, "expand_input", None), "value", None)
    if not isinstance(lists, Mapping) or not all(isinstance(values, Sized) for values in lists.values()):
        return [task.task_id]
    return [(task.task_id, index) for index in range(math.prod(len(values) for values in lists.values()))]
