"""What clients are told of jobs of a team's engine when the machine that ran them is gone."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from pipeline.engine.backends.kept import KeptBackend
from pipeline.engine.store import JobRow, Store
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeBackend, FakeParts

TRAINING = {"pythonModule": "a", "packageUris": ["gs://graft/a.tar.gz"], "region": "local"}
JOB = {"jobId": "j1", "trainingInput": TRAINING}


@pytest.fixture
def machine(parts: FakeParts):
    """Let the next engine be on another machine, with processes and files of its own."""

    def change() -> FakeBackend:
        backend = FakeBackend()
        parts.backend = KeptBackend(backend, parts.storage, workspace="gs://graft", log_bytes=10_000)
        return backend

    return change


def test_the_log_of_a_job_is_read_when_its_machine_is_gone(restart, machine):
    lost = machine()
    v1 = restart()
    v1("POST", "jobs", JOB)
    v1.wait_state("j1", "RUNNING")
    lost.logs["j1"] = b"epoch 1\nepoch 2\n"
    lost.finish("j1", 0)
    v1.wait_state("j1", "SUCCEEDED")
    other = machine()
    v1 = restart()
    piece = v1("GET", "jobs/j1:log")
    assert (piece["log"], piece["complete"], piece["nextOffset"]) == ("epoch 1\nepoch 2\n", True, "16")
    assert v1("GET", "jobs/j1:log", params={"offset": -8})["log"] == "epoch 2\n"
    assert other.logs == {}


def test_an_end_that_only_the_bucket_knows_is_the_job_s(restart, machine, parts):
    lost = machine()
    v1 = restart()
    v1("POST", "jobs", JOB)
    v1.wait_state("j1", "RUNNING")
    lost.finish("j1", 0)
    ended = v1.wait_state("j1", "SUCCEEDED")
    other = machine()
    store = Store(parts.database)
    with store.begin() as session:  # as the lost engine left it, which died before it could write more
        session.execute(update(JobRow).values(state="PREPARING", start_time=None, end_time=None))
    store.close()
    assert restart().wait_state("j1", "SUCCEEDED")["endTime"] == ended["endTime"]
    assert other.started == []


def test_a_job_that_is_lost_with_its_machine_fails_with_what_it_printed(restart, machine, parts):
    lost = machine()
    v1 = restart()
    v1("POST", "jobs", JOB)
    lost.logs["j1"] = b"epoch 1\n"
    v1.wait_state("j1", "RUNNING")
    wait_for(lambda: parts.storage.list_uris("gs://graft/engine/local/j1/log/"))
    other = machine()
    v1 = restart()
    assert "epoch 1" in v1.wait_state("j1", "FAILED")["errorMessage"]
    assert v1("GET", "jobs/j1:log")["log"] == "epoch 1\n"
    assert other.started == []
