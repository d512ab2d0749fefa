from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import pipeline
from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.ray import node
from pipeline.engine.backends.run_files import AttemptFiles, Ending, JobFile
from pipeline.engine.backends.run_log import RunLog
from pipeline.storage import Storage
from tests.fakes.clock import wait_for
from tests.fakes.engine import FakeBackend
from tests.packages import wheel

WHEEL = "tiny-1-py3-none-any.whl"
PROGRAM = """
import json, os, subprocess, sys, time
with open(os.environ['CLOUD_ML_HP_METRIC_FILE'], 'w') as file:
    print(json.dumps({'accuracy': '0.5', 'global_step': '1'}), file=file)
command = [sys.executable, '-c', 'import time; time.sleep(60)']
child = subprocess.Popen(command, start_new_session=True)
print('started', child.pid, sys.argv[1:], flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    storage = Storage({"graft": tmp_path / "bucket"})
    storage.write_bytes(
        f"gs://graft/{WHEEL}", wheel("tiny", {"tiny/__init__.py": "", "tiny/task.py": PROGRAM})
    )
    return AttemptFiles(storage, "gs://graft/engine/ray/j1/1")


def write_job(files: AttemptFiles, *args: str, version: str = pipeline.__version__) -> JobFile:
    job = TrainingJob(
        job_id="j1",
        package_uris=(f"gs://graft/{WHEEL}",),
        python_module="tiny.task",
        args=args,
        job_dir="gs://graft/jobs/j1",
        max_running_seconds=600.0,
        training_input={},
    )
    settings = {"cancel_grace_seconds": 0.5, "job_restarts": 0}
    return files.create_job(
        JobFile(key="k", version=version, workspace="gs://graft", job=job, settings=settings)
    )


def start(files: AttemptFiles, tmp_path: Path) -> subprocess.Popen[bytes]:
    (tmp_path / "scratch").mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", node.__name__, files.job_uri, f"--buckets=graft={tmp_path}/bucket"]
    return subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")})


def log_of(files: AttemptFiles) -> str:
    log = RunLog(attempts=(tuple(files.log_pieces()),))
    return log.read(files._storage, 0, log.size).decode()


def child_of(text: str) -> int:
    return int(text.partition("started ")[2].split()[0])


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_runs_the_job_and_leaves_how_it_ended_and_nothing_else(
    files: AttemptFiles, tmp_path: Path
) -> None:
    write_job(files, "0")
    assert start(files, tmp_path).wait(60) == 0
    ending = files.ending()
    assert (ending.code, ending.preparing, ending.is_lost) == (7, False, False)
    assert files.started() == ending.started <= ending.ended
    text = log_of(files)
    assert "['0', '--job-dir'" in text
    assert b'"accuracy": "0.5"' in files.metrics()
    assert not is_alive(child_of(text))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_attempt_runs_once(files: AttemptFiles, tmp_path: Path) -> None:
    write_job(files, "0")
    assert files.claim("another node")
    assert start(files, tmp_path).wait(60) == node.CLAIMED
    assert files.ending() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_whole_job_ends_with_it(files: AttemptFiles, tmp_path: Path, number: signal.Signals) -> None:
    write_job(files, "60")
    process = start(files, tmp_path)
    text = wait_for(lambda: "started" in (text := log_of(files)) and text)
    process.send_signal(number)
    code = process.wait(60)
    wait_for(lambda: not is_alive(child_of(text)))
    if number == signal.SIGTERM:
        assert (code, files.ending().code) == (0, 128 + signal.SIGTERM)
    else:
        assert files.ending() is None


def test_it_ends_when_the_engine_recorded_an_ending(files: AttemptFiles, tmp_path: Path) -> None:
    write_job(files, "60")
    process = start(files, tmp_path)
    text = wait_for(lambda: "started" in (text := log_of(files)) and text)
    assert files.end(Ending.stopped())
    assert process.wait(60) == 0
    assert not is_alive(child_of(text))
    assert files.ending().is_stopped


def test_another_version_of_graft_refuses_the_job_by_name(files: AttemptFiles, tmp_path: Path) -> None:
    job = write_job(files, "0", version="9.9")
    assert asyncio.run(node.run(files, job, FakeBackend())) == 0
    ending = files.ending()
    assert ending.code == 1
    assert f"has Graft {pipeline.__version__}, the engine has 9.9" in ending.problem
    assert node.mismatch(replace(job, version=pipeline.__version__)) == ""


def test_the_time_of_an_attempt_is_taken_from_the_next_one(files: AttemptFiles) -> None:
    job = write_job(files, "0")
    assert job.after(100).job.max_running_seconds == 500
    assert job.after(7000).job.max_running_seconds == 1
    assert job.after(100).key == job.key
