"""The end of a run: its summary in the bucket, its note in the UI, and the tasks that are skipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import DownstreamTasksSkipped

from graft.hooks.airflow_api import AirflowApiHook
from graft.operators.base import open_workspace

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import Operator

    from pipeline.artifacts.steps import StepResult
    from pipeline.deploy.approval import Approval
    from pipeline.evaluate.gate import GateDecision
    from pipeline.types import JsonObject


def finish_run(context: Context, summary: JsonObject, note: str) -> str:
    """Write the summary of a run that ends with this task, and the run's note.

    Returns:
        The summary's URI.
    """
    from pipeline.deploy.summary import data_gate_lines, write_summary

    ti, workspace = context["ti"], open_workspace()
    uri = write_summary(workspace.storage, workspace.uri, {**summary, "ended_by": ti.task_id})
    note = "\n\n".join([note, *data_gate_lines(summary)])
    AirflowApiHook().write_run_note(ti.dag_id, ti.run_id, note)
    return uri


def finish_decided_run(
    context: Context, summary: JsonObject, decision: GateDecision, approval: Approval | None = None
) -> str:
    """Finish a run that got as far as the gate; return the summary's URI."""
    from pipeline.deploy.summary import RunState, run_note

    values = dict(summary)
    if approval is not None and isinstance(gate := values["gate"], Mapping):
        values["gate"] = {**gate, "approval": approval.to_dict()}
    version = values["version"]
    note = run_note(RunState(str(values["state"])), decision, str(version) if version else None, approval)
    return finish_run(context, values, note)


def skip_rest(operator: BaseOperator, context: Context, result: StepResult) -> DownstreamTasksSkipped:
    """Return the exception that ends a task green, with its result, and skips every task after it at once."""
    context["ti"].xcom_push(key="return_value", value=result.to_dict())
    tasks = sorted(operator.get_flat_relatives(upstream=False), key=lambda task: task.task_id)
    following = [instance for task in tasks for instance in _list_instances(task)]
    return DownstreamTasksSkipped(tasks=following)  # type: ignore[no-untyped-call]


def _list_instances(task: Operator) -> list[str | tuple[str, int]]:
    """Return the instances of a task; those of one mapped over literal lists exist since the run began."""
    lists = getattr(getattr(task, "expand_input", None), "value", None)
    if not isinstance(lists, Mapping) or not all(isinstance(values, Sized) for values in lists.values()):
        return [task.task_id]
    return [(task.task_id, index) for index in range(math.prod(len(values) for values in lists.values()))]
