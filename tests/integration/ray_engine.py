"""A Ray cluster of three hosts in namespaces, an engine that runs its jobs there, and what tests ask them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from pipeline.stack.ray_cluster import RayCluster
from tests.integration.engine_process import EngineProcess

ROOT = Path(__file__).resolve().parents[2]
RAY = ROOT / "build" / "ray" / "bin" / "ray"
PATIENCE = 600  # seconds; a loaded machine takes half a minute for a job that does nothing


@contextmanager
def ray_cluster(home: Path) -> Iterator[RayCluster]:
    """Start a head and two nodes that see the bucket of a home."""
    bucket = home / "buckets" / "graft"
    (bucket / "gates").mkdir(parents=True)
    cluster = RayCluster(home, directories=[bucket], ray=RAY)
    try:
        cluster.up(nodes=2, cpus=6)
        yield cluster
    finally:
        cluster.down()


@contextmanager
def ray_engine(home: Path, cluster: RayCluster) -> Iterator[EngineProcess]:
    """Start an engine of six slots on a cluster."""
    engine = EngineProcess(home, training_slots=6, cancel_grace_seconds=2, job_cpus=1)
    engine.settings |= cluster.status.environ
    with engine:
        engine.start()
        yield engine


def create(engine: EngineProcess, body: dict[str, Any]) -> None:
    jobs = f"{engine.url}/v1/projects/local/jobs"
    requests.post(jobs, json=body, timeout=120).raise_for_status()


def cancel(engine: EngineProcess, job_id: str) -> None:
    url = f"{engine.url}/v1/projects/local/jobs/{job_id}:cancel"
    requests.post(url, json={}, timeout=120).raise_for_status()


def log_of(engine: EngineProcess, job_id: str) -> str:
    url = f"{engine.url}/v1/projects/local/jobs/{job_id}:log"
    return str(requests.get(url, timeout=120).json()["log"])


def node_of(home: Path, job_id: str, attempt: int = 1) -> str:
    """Return the host that took an attempt; empty before one has."""
    claim = home / "buckets" / "graft" / "engine" / "ray" / job_id / str(attempt) / "claim.json"
    return str(json.loads(claim.read_text())["node"]) if claim.exists() else ""


def programs_with(gate: Path) -> list[int]:
    """Return the jobs' programs on all hosts that wait for a gate."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if str(gate) in words and "tiny.task" in words:
            found.append(process.pid)
    return found
