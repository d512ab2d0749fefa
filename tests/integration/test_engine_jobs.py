"""Real training jobs of a real engine: the program is plain Python, TensorFlow is not needed here."""

from __future__ import annotations

import signal

import pytest
import requests
from googleapiclient.errors import HttpError

from pipeline.engine.backends.local import marked_processes, stop_all_jobs
from tests.fakes.clock import wait_for
from tests.integration.engine_process import EngineProcess


@pytest.fixture
def engine(tmp_path):
    with EngineProcess(tmp_path) as engine:
        engine.start()
        yield engine


def processes(engine: EngineProcess, job_id: str) -> int:
    return len(marked_processes(engine.home / "engine" / "jobs" / job_id))


def test_a_killed_engine_takes_up_its_jobs_again(engine, tmp_path):
    gate = tmp_path / "gate"
    jobs = engine.client().jobs()
    for body in (engine.training("j1", gate), engine.training("j2", gate, 3), engine.training("j3", gate)):
        jobs.create(parent="projects/local", body=body).execute()
    engine.wait_job("j1", "RUNNING")
    engine.end(signal.SIGKILL)
    assert processes(engine, "j1") == 2
    engine.start()
    assert engine.wait_job("j1", "RUNNING", "SUCCEEDED")["state"] == "RUNNING"
    assert engine.wait_job("j2", "QUEUED")["state"] == "QUEUED"
    gate.touch()
    assert "errorMessage" not in engine.wait_job("j1", "SUCCEEDED", "FAILED")
    failed = engine.wait_job("j2", "SUCCEEDED", "FAILED")
    assert failed["errorMessage"].startswith(
        "The replica master 0 exited with a non-zero status of 3. Termination reason: Error."
    )
    engine.wait_job("j3", "SUCCEEDED")
    log = (engine.home / "engine" / "jobs" / "j1" / "log.txt").read_text()
    assert log.count("started") == 1
    assert processes(engine, "j1") == 0


def test_a_job_that_ended_while_the_engine_was_dead_is_collected(engine, tmp_path):
    gate = tmp_path / "gate"
    engine.client().jobs().create(parent="projects/local", body=engine.training("j1", gate)).execute()
    engine.wait_job("j1", "RUNNING")
    engine.end(signal.SIGKILL)
    gate.touch()
    wait_for(lambda: (engine.home / "engine" / "jobs" / "j1" / "exit.json").exists())
    engine.start()
    job = engine.wait_job("j1", "SUCCEEDED", "FAILED")
    assert job["state"] == "SUCCEEDED"
    assert job["startTime"] < job["endTime"]


def test_a_job_whose_processes_were_killed_with_the_engine_fails_with_a_reason(engine, tmp_path):
    body = engine.training("j1", tmp_path / "gate")
    engine.client().jobs().create(parent="projects/local", body=body).execute()
    engine.wait_job("j1", "RUNNING")
    assert engine.end(signal.SIGTERM) == 0
    assert processes(engine, "j1") == 2
    assert stop_all_jobs(engine.home, grace_seconds=0) == ["j1"]
    assert processes(engine, "j1") == 0
    engine.start()
    assert engine.wait_job("j1", "FAILED")["errorMessage"]


def test_a_cancelled_job_leaves_no_process_and_frees_the_slot(engine, tmp_path):
    gate = tmp_path / "gate"
    jobs = engine.client().jobs()
    jobs.create(parent="projects/local", body=engine.training("j1", gate)).execute()
    jobs.create(parent="projects/local", body=engine.training("j2", gate)).execute()
    engine.wait_job("j1", "RUNNING")
    assert jobs.cancel(name="projects/local/jobs/j1").execute() == {}
    assert engine.wait_job("j1", "CANCELLED")["errorMessage"]
    assert processes(engine, "j1") == 0
    engine.wait_job("j2", "RUNNING")
    with pytest.raises(HttpError, match="has already ended") as caught:
        jobs.cancel(name="projects/local/jobs/j1", body={}).execute()
    assert caught.value.status_code == 400


def test_a_job_past_its_time_is_cancelled_even_when_the_engine_was_dead(engine, tmp_path):
    body = engine.training("j1", tmp_path / "gate", scheduling={"maxRunningTime": "1s"})
    engine.client().jobs().create(parent="projects/local", body=body).execute()
    engine.wait_job("j1", "RUNNING")
    engine.end(signal.SIGKILL)
    wait_for(lambda: (engine.home / "engine" / "jobs" / "j1" / "exit.json").exists())
    engine.start()
    assert "maxRunningTime of 1 s" in engine.wait_job("j1", "CANCELLED")["errorMessage"]


def test_the_log_and_the_errors_reach_the_stock_client(engine, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    jobs = engine.client().jobs()
    body = engine.training("j1", gate, jobDir="gs://graft/jobs/j1")
    jobs.create(parent="projects/local", body=body).execute()
    assert engine.wait_job("j1", "SUCCEEDED")["trainingInput"] == body["trainingInput"]
    piece = requests.get(f"{engine.url}/v1/projects/local/jobs/j1:log", timeout=10).json()
    assert f"'--job-dir', '{engine.home}/buckets/graft/jobs/j1'" in piece["log"]
    assert piece["complete"]
    with pytest.raises(HttpError) as caught:
        jobs.create(parent="projects/local", body=body).execute()
    assert caught.value.status_code == 409
    assert caught.value.reason == "Field: job.job_id Error: A job with this id already exists."
    assert caught.value.error_details[0]["fieldViolations"][0]["field"] == "job.job_id"
    page = jobs.list(parent="projects/local", pageSize=1).execute()
    assert [job["jobId"] for job in page["jobs"]] == ["j1"]
