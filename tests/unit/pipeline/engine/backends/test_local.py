from __future__ import annotations

import asyncio
import io
import os
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from pipeline.engine.backends import RunState, TrainingJob
from pipeline.engine.backends.local import (
    MARK,
    LocalBackend,
    job_environment,
    marked_processes,
    stop_all_jobs,
)
from pipeline.engine.backends.supervisor import process_start, write_json
from pipeline.errors import InvalidArgument, ObjectNotFound
from pipeline.storage import Storage
from tests.fakes import wait_for

SETUP = "from setuptools import setup; setup(name='tiny', version='1', packages=['tiny'])"
PROGRAM = """
import os, signal, subprocess, sys, time
action = sys.argv[1]
print('file', __file__, 'args', sys.argv[1:], flush=True)
if action == 'exit':
    sys.exit(int(sys.argv[2]))
if action == 'deaf':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
print('waiting', flush=True)
time.sleep(60)
"""


def sdist(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"tiny-1/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


@pytest.fixture
def storage(tmp_path):
    storage = Storage({"graft": tmp_path / "bucket"})
    files = {"setup.py": SETUP, "tiny/__init__.py": "", "tiny/task.py": PROGRAM}
    storage.write_bytes("gs://graft/tiny-1.tar.gz", sdist(files))
    return storage


@pytest.fixture
def backend(tmp_path, storage):
    yield LocalBackend(tmp_path, storage, grace_seconds=0.5)
    stop_all_jobs(tmp_path, grace_seconds=0)


def job(*args: str, **changes) -> TrainingJob:
    values = {
        "job_id": "j1",
        "package_uris": ("gs://graft/tiny-1.tar.gz",),
        "python_module": "tiny.task",
        "args": args,
        "job_dir": "gs://graft/jobs/j1",
        "max_running_seconds": 600.0,
        "training_input": {"pythonModule": "tiny.task"},
    }
    return TrainingJob(**{**values, **changes})


def start(backend: LocalBackend, work: TrainingJob) -> None:
    asyncio.run(backend.start(work))


def log(backend: LocalBackend) -> bytes:
    return backend.log("j1", 0, backend.log_size("j1"))


def wait_over(backend: LocalBackend):
    return wait_for(lambda: (status := backend.status("j1")).is_over and status)


def test_an_sdist_is_installed_and_its_module_runs_with_the_job_dir(backend, tmp_path):
    assert backend.status("j1").state == RunState.ABSENT
    assert backend.log_size("j1") == 0
    start(backend, job("exit", "0"))
    status = wait_over(backend)
    assert (status.state, status.exit_code, status.preparing) == (RunState.EXITED, 0, False)
    assert status.started <= status.ended
    text = log(backend).decode()
    assert f"file {tmp_path}/engine/jobs/j1/site/tiny/task.py" in text
    assert "args ['exit', '0', '--job-dir', 'gs://graft/jobs/j1']" in text


def test_starting_again_is_attaching(backend, tmp_path):
    start(backend, job("exit", "5"))
    start(LocalBackend(tmp_path, Storage({}), grace_seconds=1), job("exit", "6"))
    assert wait_over(backend).exit_code == 5


def test_a_package_that_does_not_install_ends_while_preparing(backend, storage):
    storage.write_bytes("gs://graft/tiny-1.tar.gz", sdist({"setup.py": "raise SystemExit('no way')"}))
    start(backend, job("exit", "0"))
    status = wait_over(backend)
    assert status.preparing
    assert status.exit_code == 1
    assert "no way" in log(backend).decode()


def test_a_missing_or_unknown_package_never_starts(backend):
    with pytest.raises(ObjectNotFound):
        start(backend, job(package_uris=("gs://graft/none.tar.gz",)))
    with pytest.raises(InvalidArgument, match=r"sdist .* or a wheel"):
        start(backend, job(package_uris=("gs://graft/tiny.exe",)))
    assert backend.status("j1").state == RunState.ABSENT


def test_stopping_ends_what_ignores_the_signal_and_what_left_the_session(backend, tmp_path):
    start(backend, job("deaf"))
    wait_for(lambda: b"waiting" in log(backend))
    directory = tmp_path / "engine" / "jobs" / "j1"
    assert len(marked_processes(directory)) == 3  # the supervisor, the program, and what it started
    asyncio.run(backend.stop("j1"))
    assert marked_processes(directory) == []
    assert backend.status("j1").is_over


def test_a_job_past_its_time_is_ended_by_its_supervisor(backend):
    start(backend, job("deaf", max_running_seconds=0.2))
    status = wait_over(backend)
    assert status.timed_out
    assert status.exit_code == 128 + 9


def test_a_killed_supervisor_is_seen_as_vanished(backend, tmp_path):
    start(backend, job("wait"))
    wait_for(lambda: b"waiting" in log(backend))
    assert backend.status("j1").state == RunState.RUNNING
    directory = tmp_path / "engine" / "jobs" / "j1"
    for process in marked_processes(directory):
        if "supervisor.py" in " ".join(process.cmdline()):
            process.kill()
    assert wait_over(backend).state == RunState.VANISHED


def test_stop_all_jobs_leaves_no_process(backend, tmp_path):
    start(backend, job("wait"))
    wait_for(lambda: b"waiting" in log(backend))
    assert stop_all_jobs(tmp_path, grace_seconds=1) == ["j1"]
    assert marked_processes(tmp_path / "engine" / "jobs" / "j1") == []
    assert stop_all_jobs(tmp_path) == []
    assert stop_all_jobs(tmp_path / "nowhere") == []


def test_a_job_sees_no_secrets(tmp_path):
    environ = {
        "PATH": "/bin",
        "AWS_SECRET": "x",
        "TF_NUM": "1",
        "GRAFT_HOME": "/h",
        "GRAFT_TOKEN": "t",
        "PYTHONPATH": "/p",
    }
    env = job_environment("j1", tmp_path, environ)
    assert {"AWS_SECRET", "GRAFT_TOKEN"} & set(env) == set()
    assert env["PYTHONPATH"] == str(tmp_path / "site")
    assert (env["CLOUD_ML_JOB_ID"], env["TF_NUM"], env["GRAFT_HOME"]) == ("j1", "1", "/h")
    assert env[MARK] == str(tmp_path)


def test_a_process_is_told_from_a_later_one_of_its_pid():
    child = psutil.Popen([sys.executable, "-c", "input()"], stdin=-1)
    started = process_start(child.pid)
    assert started
    assert started != process_start(os.getpid())
    child.kill()
    wait_for(lambda: process_start(child.pid) is None)  # a zombie is dead
    child.communicate()


def test_only_one_creates_a_file_and_it_appears_whole(tmp_path):
    path = tmp_path / "a.json"
    assert write_json(path, {"n": 1}, replace=False)
    assert not write_json(path, {"n": 2}, replace=False)
    assert path.read_text() == '{"n": 1}'
    write_json(path, {"n": 3})
    assert path.read_text() == '{"n": 3}'
    assert [found.name for found in Path(tmp_path).iterdir()] == ["a.json"]
    assert time.time() - path.stat().st_mtime < 60
