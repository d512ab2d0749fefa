from __future__ import annotations

import json
import signal
import sys

import pytest

from pipeline.engine.backends import supervisor
from pipeline.engine.backends.processes import oom_kills
from pipeline.engine.backends.supervisor import OUT_OF_MEMORY, Supervisor

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.01)
    monkeypatch.setattr(supervisor.ControlGroup, "of", lambda directory: None)
    plan = {"cwd": str(tmp_path), "env": {}, "memory_bytes": 10**12, "processes": 100, "log_bytes": 10**6}
    plan |= {"prepare": ["/bin/true"], "command": [sys.executable, "-c", KILLED], "restarts": 2}
    plan |= {"grace_seconds": 1, "max_running_seconds": 60}
    (tmp_path / "job.json").write_text(json.dumps(plan))
    (tmp_path / "log.txt").touch()
    return Supervisor(tmp_path)


def test_what_the_kernel_ends_for_lack_of_memory_is_named_and_not_repeated(job, monkeypatch):
    counts = iter([7, 8])
    monkeypatch.setattr(supervisor, "oom_kills", lambda: next(counts))
    assert job._run_all() == ("run", 128 + signal.SIGKILL)
    assert job.problem == OUT_OF_MEMORY


def test_what_somebody_kills_is_started_again(job, monkeypatch):
    monkeypatch.setattr(supervisor, "oom_kills", lambda: 7)
    starts = []
    run = job._run
    monkeypatch.setattr(job, "_run", lambda command, *rest: starts.append(command) or run(command, *rest))
    assert job._run_all() == ("run", 128 + signal.SIGKILL)
    assert (len(starts), job.problem) == (4, "")  # the installation, the program, and two restarts


@pytest.mark.parametrize("failing", ["prepare", "command"])
def test_a_job_that_fails_on_a_full_disk_says_so_and_blames_no_package(job, tmp_path, monkeypatch, failing):
    monkeypatch.setattr(supervisor, "adopt_orphans", lambda: None)
    monkeypatch.setattr(supervisor, "limit_this_process", lambda **_: None)
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor, "is_disk_full", lambda directory: True)
    job.job |= {"prepare": ["/bin/true"], "command": ["/bin/true"], failing: ["/bin/false"]}
    job.job |= {"cpus": [], "nice": 0, "sandbox": "none", "notes": [], "bucket_server": []}
    job.run()
    ending = json.loads((tmp_path / "exit.json").read_text())
    assert (ending["phase"], ending["code"], ending["problem"]) == ("run", 1, supervisor.DISK_FULL)


def test_a_disk_with_room_is_not_full(tmp_path):
    assert not supervisor.is_disk_full(tmp_path)


def test_the_count_of_the_kernel_is_read_where_there_is_one(tmp_path):
    vmstat = tmp_path / "vmstat"
    assert oom_kills(vmstat) == 0
    vmstat.write_text("nr_free_pages 5\noom_kill 12\noom_kill_other 3\n")
    assert oom_kills(vmstat) == 12
