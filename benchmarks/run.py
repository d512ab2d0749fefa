"""A whole run of `surfaces` in CPU seconds over all processes, by step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil

from pipeline.airflow_api import AirflowApi

GRAFT = str(Path(sys.executable).with_name("graft"))
COMMAND_SECONDS = 1800
SAMPLE_SECONDS = 0.1
IDLE_SECONDS = 20
OUTSIDE = "between steps, and `graft run`"
SECTION = """## A whole run

Classifier `surfaces`, SQLite and LocalExecutor. CPU seconds, user and system, of all processes of the stack:
Airflow's, the engine's, jobs, model workers. *First*: nothing is in the bucket. *Again*: the same pictures,
trained again. *Idle* is what the stack uses in as many seconds when nothing runs; it is part of each figure.

| step | first | again |
|---|---|---|"""


def measure() -> str:
    """Return the section of a first run and of the same again."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        environ = {**os.environ, "GRAFT_HOME": folder, "GRAFT_CLASSIFIERS": ""}
        try:
            status = graft_json(environ, "up")
            with Meter(folder) as meter:
                time.sleep(IDLE_SECONDS)
            idle = meter.total() / IDLE_SECONDS
            first, again = (_measure_run(environ, status, folder) for _ in range(2))
        finally:
            graft_json(environ, "down")
    steps = list(dict.fromkeys([*first.steps, *again.steps]))
    rows = [f"| {step} | {first.steps.get(step, 0):.1f} | {again.steps.get(step, 0):.1f} |" for step in steps]
    rows.append(f"| all | {first.total:.1f} | {again.total:.1f} |")
    rows.append(f"| of it idle | {idle * first.seconds:.1f} | {idle * again.seconds:.1f} |")
    load = os.getloadavg()[1]
    note = f"Seconds: {first.seconds:.0f} and {again.seconds:.0f}, at a load of {load:.0f} on two cores."
    return "\n".join([SECTION, *rows, "", note])


@dataclass(frozen=True)
class RunCost:
    """CPU seconds of a run by step, and how long it took."""

    steps: dict[str, float]
    seconds: float

    @property
    def total(self) -> float:
        """All steps together."""
        return sum(self.steps.values())


@dataclass
class Meter:
    """CPU seconds over time of all processes that name a directory in their environment.

    A process's own seconds pass to its parent's when it ends. One without such a parent keeps its last.
    """

    directory: str
    samples: list[tuple[float, float]] = field(default_factory=list)
    _known: dict[tuple[int, float], bool] = field(default_factory=dict)
    _ended: float = 0.0
    _alive: dict[int, tuple[float, int]] = field(default_factory=dict)  # seconds and parent by pid

    def __enter__(self) -> Meter:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def total(self) -> float:
        """Return the seconds between the first sample and the last."""
        return self.samples[-1][1] - self.samples[0][1]

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        alive = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                key = (process.pid, process.create_time())
                if key not in self._known:
                    self._known[key] = self.directory in Path(f"/proc/{process.pid}/environ").read_text()
                if self._known[key]:
                    alive[process.pid] = (sum(process.cpu_times()[:4]), process.ppid())
        for pid, (seconds, parent) in self._alive.items():
            if pid not in alive and parent not in self._alive:
                self._ended += seconds
        self._alive = alive
        self.samples.append((time.time(), self._ended + sum(seconds for seconds, _ in alive.values())))


def split_by_step(
    samples: Sequence[tuple[float, float]], steps: Iterable[tuple[str, float, float]]
) -> dict[str, float]:
    """Return each step's share of the CPU seconds: what passed while it ran, shared by those that ran too."""
    steps = list(steps)
    costs = dict.fromkeys([name for name, _, _ in steps], 0.0) | {OUTSIDE: 0.0}
    for (start, before), (end, after) in pairwise(samples):
        middle = (start + end) / 2
        running = [name for name, begun, ended in steps if begun <= middle <= ended] or [OUTSIDE]
        for name in running:
            costs[name] += (after - before) / len(running)
    return costs


def _measure_run(environ: dict[str, str], status: dict, folder: str) -> RunCost:
    with Meter(folder) as meter:
        run_id = graft_json(environ, "run", "surfaces")["run_id"]
    airflow = status["airflow"]
    api = AirflowApi(airflow["url"], airflow["username"], airflow["password"])
    tasks = [task for task in api.task_instances("surfaces", run_id) if task.started and task.ended]
    tasks.sort(key=lambda task: task.started)
    steps = [(task.task_id, task.started.timestamp(), task.ended.timestamp()) for task in tasks]
    costs = split_by_step(meter.samples, steps)
    return RunCost(costs, meter.samples[-1][0] - meter.samples[0][0])


def graft_json(environ: dict[str, str], *arguments: str) -> dict:
    """Run a command of graft and return what it prints as JSON."""
    command = [GRAFT, *arguments, "--json"]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    document: dict = json.loads(done.stdout)
    return document


if __name__ == "__main__":
    sys.stdout.write(measure() + "\n")
