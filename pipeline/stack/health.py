"""Waiting for components: every wait has a deadline and ends at once when a component dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from pathlib import Path

import requests

from pipeline.errors import StackError
from pipeline.stack.processes import ProcessRecord, log_tail
from pipeline.types import JsonValue

POLL_SECONDS = 0.2
# The keys of Airflow's own health report, by our component names.
HEARTBEATS = {
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag_processor",
    "airflow-triggerer": "triggerer",
}


def get_json(url: str, *, timeout_seconds: float = 5) -> JsonValue:
    """Return what a loopback address answers as JSON, or None while it does not answer with 200."""
    try:
        answer = _session().get(url, timeout=timeout_seconds)
        value: JsonValue = answer.json() if answer.status_code == 200 else None
    except requests.RequestException:
        return None
    return value


@cache
def _session() -> requests.Session:
    """Return the session of every look: a new one costs more than the request."""
    session = requests.Session()
    session.trust_env = False  # no proxy leads to this machine
    return session


def is_engine_healthy(url: str) -> bool:
    """Return True if the engine answers."""
    answer = get_json(f"{url}/healthz")
    return isinstance(answer, dict) and answer.get("status") == "ok"


def unhealthy_airflow(url: str, records: Iterable[ProcessRecord]) -> list[str]:
    """Return the Airflow components that are not healthy yet.

    A heartbeat older than its process is the one of an earlier process, so it does not count.
    """
    records = list(records)
    health = get_json(f"{url}/api/v2/monitor/health")
    if not isinstance(health, dict):
        return [record.name for record in records]
    return [
        record.name
        for record in records
        if record.name in HEARTBEATS and not _beats(health.get(HEARTBEATS[record.name]), record)
    ]


def _beats(report: JsonValue, record: ProcessRecord) -> bool:
    if not isinstance(report, dict):
        return False
    latest = report.get(f"latest_{HEARTBEATS[record.name]}_heartbeat")
    if report.get("status") != "healthy" or not latest:
        return False
    return datetime.fromisoformat(str(latest)).timestamp() >= record.started - 1


def wait_healthy(
    waiting: Callable[[], list[str]], records: Iterable[ProcessRecord], *, logs: Path, seconds: float
) -> None:
    """Wait until no component is named any more.

    Args:
        waiting: Returns the names of components that are not healthy yet.
        records: The processes that must stay alive meanwhile.
        logs: Directory of their logs.
        seconds: The deadline.

    Raises:
        StackError: if one ends or the deadline passes; with the end of its log.
    """
    records = list(records)
    deadline = time.monotonic() + seconds
    while names := waiting():
        for record in records:
            if not record.is_alive:
                raise _failed(f"{record.name} ended while it was starting", logs / f"{record.name}.log")
        if time.monotonic() > deadline:
            message = f"{', '.join(names)} did not become healthy in {seconds:.0f} s"
            raise _failed(message, logs / f"{names[0]}.log")
        time.sleep(POLL_SECONDS)


def _failed(message: str, log: Path) -> StackError:
    return StackError(f"{message}. The end of {log}:\n{log_tail(log)}", log=str(log))
