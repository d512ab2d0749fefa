"""What must be true of an engine after all that happened to it, by what it promised its clients."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from pipeline.engine.backends.plan import MARK
from pipeline.engine.database import SqliteFile
from tests.integration.durable_client import ENDED, LINES, DurableClient
from tests.integration.engine_process import EngineProcess


def all_of(client: DurableClient, path: str, name: str) -> list[dict[str, Any]]:
    found, token = [], ""
    while True:
        page = client.insist("GET", f"{path}?pageSize=100&pageToken={token}", 200)
        found += page.get(name, [])
        if not (token := page.get("nextPageToken", "")):
            return found


def check_jobs(
    engine: EngineProcess,
    clients: Sequence[DurableClient],
    *,
    ended_by: Sequence[str] = (),
    max_starts: int = 1,
) -> dict[str, int]:
    """Check that every job that was promised is there, ended as it must, and count them by state.

    Args:
        engine: The engine.
        clients: Who created them.
        ended_by: What the message of a job may say that failed.
        max_starts: How often the program of one may have started.
    """
    listed = all_of(clients[0], "jobs", "jobs")
    assert sorted(job["jobId"] for job in listed) == sorted(id for client in clients for id in client.jobs)
    states: dict[str, int] = {}
    for job in listed:
        client = clients[int(job["jobId"][1 : job["jobId"].index("_")])]
        states[job["state"]] = states.get(job["state"], 0) + 1
        assert job["state"] in ENDED
        assert job["state"] == client.ended.get(job["jobId"], job["state"]), "an end is for ever"
        if job["state"] == "CANCELLED":
            assert job["jobId"] in client.cancelled
        elif job["state"] == "FAILED":
            assert any(reason in job["errorMessage"] for reason in ended_by), job["errorMessage"]
        else:
            assert job["state"] == "SUCCEEDED", job
        check_work(engine, job, max_starts)
    return states


def check_work(engine: EngineProcess, job: dict[str, Any], max_starts: int) -> None:
    """Check that the work of a job was done once if it succeeded, and never twice."""
    succeeded = job["state"] == "SUCCEEDED"
    if "predictionInput" in job:
        out = f"gs://graft/out/{job['jobId']}/prediction.results-00000-of-00001"
        if succeeded:
            assert job["predictionOutput"]["predictionCount"] == str(LINES)
            assert engine.storage.read_bytes(out).count(b"\n") == LINES
        return
    path = Path(job["trainingInput"]["args"][0])
    steps = path.read_text().split() if path.exists() else []
    assert steps.count("start") <= max_starts, (job, steps)
    assert steps.count("end") <= 1, (job, steps)
    if succeeded:
        assert steps[-2:] == ["start", "end"], (job, steps)


def check_versions(engine: EngineProcess, clients: Sequence[DurableClient], *, others: int = 0) -> int:
    """Check that every version answers as it should, and that no files of others are left; count them."""
    count = 0
    for client in clients:
        base = f"models/{client.model}"
        rows = all_of(client, f"{base}/versions", "versions")
        listed = {row["name"].rpartition("/")[2]: row for row in rows}
        assert listed.keys() == client.versions.keys()
        for name, row in listed.items():
            assert row["state"] == "READY", row
            answer = client.insist("POST", f"{base}/versions/{name}:predict", 200, body=client.request())
            assert client.favourite_of(answer) == ("odd", "even").index(client.versions[name])
            source = engine.home / "buckets" / "graft" / "exports" / client.versions[name]
            assert files_of(copies(engine) / client.model / name) == files_of(source)
        kept = {path.name for path in (copies(engine) / client.model).glob("*") if files_of(path)}
        assert kept == listed.keys(), "files of versions that are gone"
        count += len(listed)
    cached = sorted(path.name for path in (engine.home / "engine" / "models").glob("*/*"))
    assert len(cached) == count + others, cached
    return count


def copies(engine: EngineProcess) -> Path:
    return engine.home / "buckets" / "graft" / "models"


def files_of(directory: Path) -> dict[str, bytes]:
    """The objects below a directory; a write that was killed leaves a hidden part that is none."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def check_operations(client: DurableClient, *, ended_by: Sequence[str] = ()) -> int:
    """Check that every operation is done, and none failed but for these reasons; count them."""
    operations = all_of(client, "operations", "operations")
    assert [operation for operation in operations if not operation.get("done")] == []
    failed = [operation for operation in operations if "error" in operation]
    assert [each for each in failed if not any(reason in str(each) for reason in ended_by)] == []
    return len(operations)


def processes_of(home: Path) -> list[str]:
    """Every living process that the engine or its jobs started."""
    found = []
    for process in psutil.process_iter():
        try:
            words, marked = process.cmdline(), process.environ().get(MARK, "")
        except psutil.Error:
            continue
        if process.pid != os.getpid() and (str(home) in " ".join(words) or marked.startswith(str(home))):
            found.append(f"{process.pid} {' '.join(words)}")
    return found


def is_settled(clients: Sequence[DurableClient]) -> bool:
    jobs = all_of(clients[0], "jobs", "jobs")
    operations = all_of(clients[0], "operations", "operations")
    return all(job["state"] in ENDED for job in jobs) and all(row.get("done") for row in operations)


def check_database(engine: EngineProcess) -> None:
    """Check that the engine's database is whole."""
    connections = engine.database.connect()
    with connections.connect() as connection:
        engine.database.check(connection)
    connections.dispose()
    if isinstance(engine.database, SqliteFile):
        with closing(sqlite3.connect(engine.database.path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
