"""Everything that can happen to a run, at each step that costs or serves; docs/operators.md has the table.

A cell holds the step in its middle (the training process or the trunk is stopped, the turn to promote is
taken), lets the fault happen, and checks the engine's records: no second paid job, no leaked job, no green
task over a dead job, no half-deployed version. `GRAFT_SOAK=1` runs all cells, otherwise a sample of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Stack, wait_until
from tests.e2e.fault_driver import JOB_STEPS, FaultRun

STEPS = ("train", "evaluate", "create_version", "promote")
ENDED, GOES_ON = "ended", "goes on"
SOAK = bool(os.environ.get("GRAFT_SOAK"))
COMPONENTS = {
    "kill_scheduler": "airflow-scheduler",
    "kill_triggerer": "airflow-triggerer",
    "kill_engine": "engine",
}
# Which DAG each fault happens to: tasks that the triggerer waits for, or that wait themselves and so have a
# process to kill, or that have an execution timeout.
DAGS = {
    **dict.fromkeys(("clear", "mark_failed_at_once", "mark_failed_later", "kill_training_process"), "faults"),
    **dict.fromkeys(COMPONENTS, "faults"),
    **dict.fromkeys(("retry", "kill_worker"), "faults_sync"),
    "execution_timeout": "faults_timeout",
}
# A run goes through one fault at each step; the sample through two of them.
RUNS = {
    # Training is held meanwhile: an answer of Airflow that takes a minute would let it end first.
    "sample": {"train": "mark_failed_later", "create_version": "retry"},
    **({fault: dict.fromkeys(STEPS, fault) for fault in DAGS} if SOAK else {}),
    **({f"delete_run-{step}": {step: "delete_run"} for step in STEPS} if SOAK else {}),
}


@pytest.fixture
def start(stack: Stack) -> Callable[..., FaultRun]:
    """Start a run; unless it is the first, of a DAG whose model serves already."""

    def start(dag_id: str, *, first: bool = False) -> FaultRun:
        run = FaultRun(stack, dag_id)
        wait_until(lambda: run.api.last_parsed(dag_id), seconds=120, what=f"DAG {dag_id}")
        if not first and run.engine.get_model(dag_id) is None:
            run.start()
            run.finish()
        run.start()
        return run

    return start


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_outlasts_what_happens_to_it(start: Callable[..., FaultRun], name: str) -> None:
    with start(DAGS.get(name, "faults"), first=name == "sample").cleanup() as run:
        for step, fault in RUNS[name].items():
            if suffer(run, step, fault) == ENDED:
                return
        run.finish() if SOAK else run.abort()


def suffer(run: FaultRun, step: str, fault: str) -> str:
    """Let a fault happen to a step in its middle, and check what must be true; say how the run goes on."""
    at_work = "deferred" if step in JOB_STEPS and run.dag_id != "faults_sync" else "running"
    if fault != "mark_failed_at_once" or step == "promote":
        run.hold(step)
    run.wait_task(step, at_work)
    if fault == "delete_run":
        delete(run, step)
        return ENDED
    before = run.task(step)
    cause(fault, run, step)
    failed = fails(fault, step)
    if fault == "kill_training_process":  # the engine starts what it can again, in the same job
        run.release()
        failed = run.wait_task(step, "success", "failed", seconds=300) == "failed"
    if failed:
        run.wait_task(step, "failed")
        run.wait_gone(before["id"])
        run.release()
        leave_nothing(run, step)
        if step == "promote":
            return ENDED
        run.clear(step)
    elif is_tried_again(fault, step):
        run.wait_task(step, "running", "deferred", tries=before["try_number"] + 1)
    run.release()
    run.wait_task(step, "success", seconds=300)
    run.check(step, jobs=2 if failed or fault == "clear" else 1)
    return GOES_ON


def delete(run: FaultRun, step: str) -> None:
    """Delete a run that goes on, which Airflow refuses; then fail it, delete it, and check what it leaves."""
    assert run.delete() == 409
    id = run.task(step)["id"]
    run.abort()
    run.wait_gone(id)
    run.release()
    if step == "create_version":
        run.wait_version()
    assert run.delete() == 204
    run.sweep()
    for name in JOB_STEPS:
        run.check_no_live_job(name)
    run.check_nothing_deployed()


def cause(fault: str, run: FaultRun, step: str) -> None:
    """Let a fault happen to a step that is held in its middle."""
    if fault in ("retry", "kill_worker"):
        run.kill_task(step, worker=fault == "kill_worker")
    elif fault in COMPONENTS:
        run.kill_component(COMPONENTS[fault])
    elif fault == "clear":
        run.clear(step)
    elif fault.startswith("mark_failed"):
        run.set_task_state(step, "failed")
    elif fault == "kill_training_process":
        for process in run.frozen or run.trunks():
            process.kill()


def fails(fault: str, step: str) -> bool:
    """Say whether the task must end failed; else it goes on, or is tried again by itself."""
    if fault.startswith("mark_failed"):
        return True
    return fault == "execution_timeout" and step in JOB_STEPS


def is_tried_again(fault: str, step: str) -> bool:
    """Say whether Airflow starts the task again, so that the step may be let go only then."""
    if fault == "kill_scheduler":
        return step not in JOB_STEPS  # its workers die with it, but nobody's process waits for a job
    return fault in ("retry", "kill_worker", "clear", "execution_timeout")


def leave_nothing(run: FaultRun, step: str) -> None:
    """Check that a failed run leaves no job and, once swept, no version."""
    wait_until(lambda: run.api.run_state(run.dag_id, run.run_id) == "failed", seconds=120, what="failed run")
    if step == "create_version":
        run.wait_version()
    run.sweep()
    if step in JOB_STEPS:
        run.check_no_live_job(step)
    else:
        run.check_nothing_deployed()
