"""`graft run NAME --force STEP`: redo a step of a classifier's last run, and what depends on it."""

from __future__ import annotations

from pipeline.airflow_api import UNFINISHED_RUNS, AirflowApi
from pipeline.cli.output import UsageError
from pipeline.cli.progress import STAGES
from pipeline.config.problems import suggest

DEPLOYING = "create_version"


def redo_step(api: AirflowApi, name: str, step: str) -> str:
    """Let Airflow do a step of the last run again, with all steps after it; return the run's id.

    A second request while the first is at work is refused, because the run is unfinished then.

    Raises:
        UsageError: if there is no such step or no run, the run is unfinished, or has deployed a version.
        StackError: if Airflow refuses.
    """
    if step not in STAGES:
        raise UsageError(
            f"there is no step {step!r}{suggest(step, STAGES)}; the steps are {', '.join(STAGES)}"
        )
    run = api.last_run(name)
    if run is None:
        raise UsageError(
            f"{name} has no run of which a step could be done again; `graft run {name}` starts one"
        )
    if run.state in UNFINISHED_RUNS:
        raise UsageError(
            f"run {run.run_id} of {name} is {run.state}: wait until it has ended, or stop it in Airflow"
        )
    deployed = any(
        task.task_id == DEPLOYING and task.state == "success" for task in api.task_instances(name, run.run_id)
    )
    if deployed and STAGES.index(step) <= STAGES.index(DEPLOYING):
        raise UsageError(
            f"run {run.run_id} of {name} has deployed a version, which stays as it was made; "
            f"`graft run {name}` makes a new one. Of this run, the steps after {DEPLOYING} can be done again"
        )
    api.redo_task(name, run.run_id, step)
    return run.run_id
