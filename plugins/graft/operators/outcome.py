"""What the last task of a run leaves behind: the summary in the bucket and the note in the UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import DownstreamTasksSkipped

from graft.hooks.airflow_api import AirflowApiHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from graft.operators.base import GraftOperator
    from pipeline.evaluate.gate import GateDecision
    from pipeline.types import JsonDict


def finish_run(operator: GraftOperator, context: Context, summary: JsonDict, decision: GateDecision) -> str:
    """Write the summary of a run that ends here, and its note; return the summary's URI."""
    from pipeline.deploy.summary import RunState, run_note, write_summary

    uri = write_summary(operator.storage, operator.workspace, summary)
    note = run_note(RunState(summary["state"]), decision, summary["version"])
    AirflowApiHook().write_run_note(context["ti"].dag_id, context["ti"].run_id, note)
    return uri


def skip_what_follows(operator: GraftOperator) -> DownstreamTasksSkipped:
    """Return the exception that ends this task green and skips every task after it at once."""
    following = sorted(task.task_id for task in operator.get_flat_relatives(upstream=False))
    return DownstreamTasksSkipped(tasks=following)  # type: ignore[no-untyped-call]
