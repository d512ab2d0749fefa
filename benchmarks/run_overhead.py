"""What Airflow itself costs a run: time between tasks, and the scheduler's CPU seconds."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote

import psutil

from benchmarks.run import graft_json
from pipeline.airflow_api import AirflowApi

IDLE_SECONDS = 20
SECTION = """## What Airflow costs a run

Classifier `surfaces`, SQLite and LocalExecutor. *Between tasks*: seconds of the run in which no task of it
runs. *Scheduler*: CPU seconds of the scheduler process during the run, without task processes, less what it
uses when idle.

| run | steps | whole run, s | in tasks, s | between tasks, s | for each step, s | scheduler, CPU s |
|---|---|---|---|---|---|---|"""
NOTES = """Load of the two cores meanwhile: {load:.0f}. Idle, the scheduler uses {idle:.2f} CPU seconds
a second.
A task's own seconds include the start of its process and the parsing of its DAG's one file. Runs that have
nothing new end after `clean`."""


def measure() -> str:
    """Return the section of a first run and of two with nothing new."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "GRAFT_HOME": folder, "GRAFT_CLASSIFIERS": ""}
        try:
            status = graft_json(environ, "up")
            scheduler = _find_scheduler(status)
            idle = _cpu_of_idle(scheduler)
            rows = [_measure_run(environ, status, scheduler, idle, "first")]
            for number in (1, 2):
                name = f"nothing new, {number}"
                rows.append(_measure_run(environ, status, scheduler, idle, name, "--if-changed"))
        finally:
            graft_json(environ, "down")
    return "\n".join([SECTION, *rows, "", NOTES.format(load=os.getloadavg()[1], idle=idle)])


def _find_scheduler(status: dict) -> psutil.Process:
    [pid] = [row["pid"] for row in status["processes"] if row["name"] == "airflow-scheduler"]
    return psutil.Process(pid)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _cpu_of_idle(scheduler: psutil.Process) -> float:
    before = _cpu(scheduler)
    psutil.cpu_percent(interval=IDLE_SECONDS)
    return (_cpu(scheduler) - before) / IDLE_SECONDS


def _measure_run(
    environ: dict[str, str], status: dict, scheduler: psutil.Process, idle: float, name: str, *options: str
) -> str:
    before = _cpu(scheduler)
    run_id = graft_json(environ, "run", "surfaces", *options)["run_id"]
    spent = _cpu(scheduler) - before
    airflow = status["airflow"]
    api = AirflowApi(airflow["url"], airflow["username"], airflow["password"])
    run = api._call("GET", f"/api/v2/dags/surfaces/dagRuns/{quote(run_id, safe='')}")
    whole = _seconds(*(datetime.fromisoformat(run[key]) for key in ("start_date", "end_date")))
    tasks = [task for task in api.task_instances("surfaces", run_id) if task.state == "success"]
    steps = len({task.task_id for task in tasks})
    busy = _covered((task.started, task.ended) for task in tasks if task.started and task.ended)
    own = max(spent - idle * whole, 0.0)
    return (
        f"| {name} | {steps} | {whole:.1f} | {busy:.1f} | {whole - busy:.1f} | {(whole - busy) / steps:.2f} "
        f"| {own:.1f} |"
    )


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def _covered(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    """Return the seconds that lie in at least one interval."""
    covered, latest = 0.0, datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(intervals):
        if end > latest:
            covered += _seconds(max(start, latest), end)
            latest = end
    return covered


if __name__ == "__main__":
    sys.stdout.write(measure() + "\n")
