"""The database is locked by another process, or its disk is full: nothing stops, and nothing is lost."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event, text

from tests.contract.test_jobs import JOB
from tests.fakes.databases import IS_POSTGRES


class Lock:
    """Another program that keeps the database from being written."""

    def __init__(self, parts) -> None:
        self._parts = parts
        self._connections = parts.database.connect()
        self._transaction = None

    def __call__(self) -> Lock:
        self._transaction = self._connections.connect()
        if IS_POSTGRES:
            tables = "jobs, models, versions, operations"
            self._transaction.execute(text(f"LOCK TABLE {tables} IN EXCLUSIVE MODE"))
        else:
            self._transaction.execute(text("BEGIN IMMEDIATE"))
        return self

    def release(self) -> None:
        if self._transaction is not None:
            self._transaction.rollback()
            self._transaction.close()
            self._transaction = None

    def close(self) -> None:
        self.release()
        self._connections.dispose()


@pytest.fixture
def lock(parts):
    lock = Lock(parts)
    yield lock
    lock.close()


def test_a_job_that_ends_while_the_database_is_locked_ends_afterwards_and_the_queue_goes_on(
    v1, parts, lock, caplog
):
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://other/export"))
    for job_id in ("j1", "j2"):
        v1("POST", "jobs", {**JOB, "jobId": job_id})
    v1.wait_state("j1", "RUNNING")
    transaction = lock()
    parts.backend.finish("j1", 0)
    began = time.monotonic()
    while time.monotonic() < began + 1:
        sent = time.monotonic()
        answer = v1.http.post("/v1/projects/p/jobs", json={**JOB, "jobId": "j3"})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert "database cannot be used now: " in answer.json()["error"]["message"]
        assert "lock" in answer.json()["error"]["message"]
        assert v1.http.get("/healthz").status_code == 200
        assert v1("GET", "jobs/j1")["state"] == "RUNNING"
        assert v1("GET", "models/m/versions/v1")["state"] == "READY"
        assert len(v1("POST", "models/m:predict", {"instances": [[1]]})["predictions"]) == 1
        assert time.monotonic() < sent + 2
    transaction.release()
    v1.wait_state("j1", "SUCCEEDED")
    v1.wait_state("j2", "RUNNING")
    v1("POST", "jobs", {**JOB, "jobId": "j3"})
    assert "never retrieved" not in caplog.text


def test_a_version_that_is_ready_while_the_database_is_locked_serves_afterwards(v1, parts, lock):
    v1("POST", "models", {"name": "m"})
    gate = [False]
    parts.pool.gate = lambda name: gate[0]
    body = {"name": "v1", "deploymentUri": parts.export("gs://other/export")}
    operation = v1("POST", "models/m/versions", body)
    transaction = lock()
    gate[0] = True
    time.sleep(0.1)
    assert "done" not in v1("GET", operation["name"].removeprefix("projects/p/"))
    transaction.release()
    assert v1.wait_done(operation)["response"]["state"] == "READY"
    assert len(parts.pool.loaded) == 1


def test_a_deletion_that_could_not_be_recorded_changes_nothing(v1, parts, lock):
    v1("POST", "models", {"name": "m"})
    v1.deploy("m", "v1", parts.export("gs://other/export"))
    transaction = lock()
    assert v1.error("DELETE", "models/m/versions/v1", code=503)["status"] == "UNAVAILABLE"
    assert len(v1("POST", "models/m:predict", {"instances": [[1]]})["predictions"]) == 1
    transaction.release()
    assert v1("GET", "models/m")["defaultVersion"]["name"].endswith("/v1")


@pytest.mark.skipif(IS_POSTGRES, reason="the server's disk cannot be filled from here")
def test_a_full_disk_is_503_and_passes(v1):
    database = v1.http.app.state.engine.store.database
    with database.connect() as connection:
        most = connection.execute(text("PRAGMA page_count")).scalar()

    def limit(connection, *_):  # of each connection, so of all that is written
        connection.execute(f"PRAGMA max_page_count={most}")

    event.listen(database, "checkout", limit)
    large = {"name": "m", "description": "x" * 100_000}
    error = v1.error("POST", "models", large, code=503)
    assert "disk is full" in error["message"]
    most = 1_000_000
    v1("POST", "models", large)


def test_a_queue_that_fails_is_counted_and_goes_on(v1, parts, monkeypatch):
    runner = v1.http.app.state.engine.runner
    next_job = runner._next

    def fail(kind):
        monkeypatch.setattr(runner, "_next", next_job)
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner, "_next", fail)
    v1("POST", "jobs", {**JOB, "jobId": "j1"})
    v1.wait_state("j1", "RUNNING")
    assert 'graft_engine_task_failures_total{task="queue"}' in v1.http.get("/metrics").text


def test_a_job_whose_end_fails_is_watched_again(v1, parts, monkeypatch):
    stop = parts.backend.stop

    async def fail(job_id):
        monkeypatch.setattr(parts.backend, "stop", stop)
        raise OSError(28, "No space left on device")

    v1("POST", "jobs", {**JOB, "jobId": "j1"})
    v1.wait_state("j1", "RUNNING")
    monkeypatch.setattr(parts.backend, "stop", fail)
    parts.backend.finish("j1", 0)
    v1.wait_state("j1", "SUCCEEDED")
