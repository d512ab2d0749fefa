"""A run that trains goes on when the whole stack is killed, or stopped, and started again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import psutil
import pytest

from tests.e2e.conftest import Stack, wait_until


def stop(stack: Stack, run_pid: int) -> None:
    assert stack.graft("down").returncode == 0


def kill(stack: Stack, run_pid: int) -> None:
    for _ in range(3):  # the first ones may just have started others
        for process in stack.processes():
            if process.pid != run_pid:
                process.kill()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("end", [kill, stop] if os.environ.get("GRAFT_SOAK") else [kill])
def test_a_run_that_trains_outlasts_the_end_of_the_whole_stack(
    stack: Stack, end: Callable[[Stack, int], None]
) -> None:
    before = {job["jobId"] for job in stack.engine_get("jobs")["jobs"]}

    def training() -> bool:
        jobs = [job for job in stack.engine_get("jobs")["jobs"] if job["jobId"] not in before]
        return any("trainingInput" in job and job["state"] == "RUNNING" for job in jobs)

    seed = 100 + len(before)
    parameters = ("--param", f"model.seed={seed}", "--param", "model.epochs=300")
    with stack.start_graft("run", "surfaces", *parameters, "--json") as run:
        wait_until(training, seconds=240, what="training job")
        end(stack, run.pid)
        wait_until(
            lambda: all(process.pid == run.pid for process in stack.processes()), seconds=10, what="end"
        )
        assert stack.graft_json("up")["state"] == "running"
        stdout, _ = run.communicate(timeout=540)
    result = json.loads(stdout)
    assert (run.returncode, result["state"]) == (0, "success"), result
    assert not any("pipeline.trainer.task" in " ".join(process.cmdline()) for process in stack.processes()), (
        "a job of the first try"
    )
    assert psutil.pid_exists(stack.graft_json("status")["processes"][0]["pid"])
