"""Many classifiers triggered at the same moment: all end green, jobs start in order, memory stays bounded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.e2e.conftest import ClassifierDag, Stack, wait_until

COUNT = 20
MAX_PSS_BYTES = 6_000_000_000
SAMPLE_SECONDS = 3


def classifier(number: int) -> dict[str, object]:
    return {
        "name": f"at_once_{number:02d}",
        "dataset": {"source": {"type": "sample", "classes": ["brick", "grass"]}},
        "model": {"epochs": 3, "seed": number, "head": {"units": 64}},
        "gate": {"min_accuracy": 0.5},
    }


class Memory(threading.Thread):
    """Measures the memory of a stack until it is told to stop."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.stack, self.peak, self.done = stack, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(map(_pss, self.stack.processes())))


def _pss(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


@contextmanager
def measured(stack: Stack) -> Iterator[Memory]:
    memory = Memory(stack)
    memory.start()
    try:
        yield memory
    finally:
        memory.done.set()
        memory.join()


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_classifiers_that_are_triggered_at_once_all_end_green(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    dags = [ClassifierDag(stack, classifier(number)) for number in range(COUNT)]
    api = stack.airflow()
    for dag in dags:
        wait_until(lambda dag=dag: api.last_parsed(dag.name), seconds=240, what=f"DAG {dag.name}", pause=1)
    before = {job["jobId"] for job in stack.engine_get("jobs?pageSize=1000")["jobs"]}
    with measured(stack) as memory:
        runs = {dag: api.trigger(dag.name, {}) for dag in dags}
        states: dict[str, str] = {}

        def ended() -> bool:
            states.update({dag.name: str(api.run_state(dag.name, run)) for dag, run in runs.items()})
            return all(state in ("success", "failed") for state in states.values())

        wait_until(ended, seconds=5000, what="end of every run", pause=3)
    failed = {
        dag.name: dag.states(runs[dag]) | {"note": {dag.note(runs[dag])}}
        for dag in dags
        if states[dag.name] != "success"
    }
    assert failed == {}
    jobs = [job for job in stack.engine_get("jobs?pageSize=1000")["jobs"] if job["jobId"] not in before]
    for kind in ("trainingInput", "predictionInput"):
        mine = sorted((job for job in jobs if kind in job), key=lambda job: job["createTime"])
        assert len(mine) == COUNT, f"{len(mine)} jobs with {kind}"
        started = [job["startTime"] for job in mine]
        assert started == sorted(started), "first in, first out"
    assert memory.peak <= MAX_PSS_BYTES
    with capsys.disabled():
        sys.stdout.write(f"\n{COUNT} classifiers at once: peak PSS {memory.peak / 1e9:.2f} GB\n")
