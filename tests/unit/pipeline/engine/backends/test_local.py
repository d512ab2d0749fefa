from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.backends.control_group import ControlGroup
from pipeline.engine.backends.local import LocalBackend, marked_processes, stop_all_jobs
from pipeline.engine.backends.plan import MARK, job_environment, memory_limit
from pipeline.engine.backends.processes import process_start
from pipeline.engine.backends.supervisor import write_json
from pipeline.engine.sandbox.landlock import SCOPE_ABI
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.engine.settings import EngineSettings
from pipeline.errors import InvalidArgument, ObjectNotFound
from pipeline.storage import Storage
from pipeline.submission.package import CLOSURE, MODULE, build_package, read_modules
from tests.fakes.clock import wait_for
from tests.packages import sdist, wheel

SETUP = "from setuptools import setup; setup(name='tiny', version='1', packages=['tiny'])"
WHEEL = "tiny-1-py3-none-any.whl"
PROGRAM = """
import os, signal, subprocess, sys, time
action = sys.argv[1]
print('file', __file__, 'args', sys.argv[1:], flush=True)
if action == 'exit':
    sys.exit(int(sys.argv[2]))
if action == 'once':
    first = not os.path.exists('second')
    open('second', 'w').close()
    os.kill(os.getpid(), signal.SIGKILL) if first else sys.exit(0)
if action == 'always':
    os.kill(os.getpid(), signal.SIGSEGV)
if action == 'greedy':
    held = [bytearray(50_000_000) for _ in range(10)]
if action == 'cpus':
    print('cpus', len(os.sched_getaffinity(0)), os.environ['OMP_NUM_THREADS'], os.nice(0), flush=True)
    sys.exit(0)
if action == 'hidden':
    command = [sys.executable, '-c', 'import time; time.sleep(60)']
    print('left', subprocess.Popen(command, start_new_session=True, env={}).pid, flush=True)
    sys.exit(0)
if action == 'bomb':
    started = 0
    try:
        while True:
            if not os.fork():
                while True:
                    try:
                        os.fork()
                    except OSError:
                        time.sleep(0.01)
            started += 1
    except OSError as error:
        print('bomb', started, error, flush=True)
        time.sleep(60)
if action == 'crowd':
    for _ in range(20):
        if not os.fork():
            time.sleep(60)
    time.sleep(60)
if action == 'escape':
    command = [sys.executable, '-c', 'import time; time.sleep(60)']
    pid = os.fork()
    if not pid:
        os.setsid()
        if os.fork():
            os._exit(0)
        print('escaped', os.getpid(), flush=True)
        os.execve(command[0], command, {'A': 'b'})
    os.waitpid(pid, 0)
    time.sleep(1)
    os.kill(os.getppid(), signal.SIGKILL)
if action == 'deaf':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
print('waiting', flush=True)
time.sleep(60)
"""


@pytest.fixture
def storage(tmp_path):
    storage = Storage({"graft": tmp_path / "bucket"})
    files = {"setup.py": SETUP, "tiny/__init__.py": "", "tiny/task.py": PROGRAM}
    storage.write_bytes("gs://graft/tiny-1.tar.gz", sdist(files))
    del files["setup.py"]
    storage.write_bytes(f"gs://graft/{WHEEL}", wheel("tiny", files))  # takes no building
    return storage


@pytest.fixture
def backend(tmp_path, storage):
    yield local(tmp_path, storage)
    stop_all_jobs(tmp_path, grace_seconds=0)


def job(*args: str, **changes) -> TrainingJob:
    values = {
        "job_id": "j1",
        "package_uris": (f"gs://graft/{WHEEL}",),
        "python_module": "tiny.task",
        "args": args,
        "job_dir": "gs://graft/jobs/j1",
        "max_running_seconds": 600.0,
        "training_input": {"pythonModule": "tiny.task"},
    }
    return TrainingJob(**{**values, **changes})


def local(tmp_path, storage, **settings) -> LocalBackend:
    return LocalBackend(tmp_path, storage, EngineSettings(cancel_grace_seconds=0.5, **settings))


def can_make_groups(tmp_path) -> bool:
    group = ControlGroup.of(tmp_path / "probe")
    pid = os.fork()
    if not pid:
        entered = group is not None and group.enter(10)
        if entered:
            group.leave()
        os._exit(0 if entered else 1)
    return os.waitpid(pid, 0)[1] == 0


def start(backend: LocalBackend, work: TrainingJob) -> None:
    asyncio.run(backend.start(work))


def log(backend: LocalBackend) -> bytes:
    size = asyncio.run(backend.log_size("j1"))
    return asyncio.run(backend.log("j1", 0, size))


def status_of(backend: LocalBackend) -> RunStatus:
    return asyncio.run(backend.statuses(["j1"]))["j1"]


def wait_over(backend: LocalBackend):
    return wait_for(lambda: (status := status_of(backend)).is_over and status)


def test_an_sdist_is_installed_and_its_module_runs_with_the_job_dir(backend, tmp_path):
    assert status_of(backend).state == RunState.ABSENT
    assert log(backend) == b""
    start(backend, job("exit", "0", package_uris=("gs://graft/tiny-1.tar.gz",)))
    status = wait_over(backend)
    assert (status.state, status.exit_code, status.preparing) == (RunState.EXITED, 0, False)
    assert status.started <= status.ended
    text = log(backend).decode()
    assert f"file {tmp_path}/engine/jobs/j1/site/tiny/task.py" in text
    assert f"args ['exit', '0', '--job-dir', '{tmp_path}/bucket/jobs/j1']" in text
    assert f"Buckets: gs://graft is {tmp_path}/bucket; its arguments hold paths" in text


def test_the_arguments_stay_uris_if_the_engine_is_told_so(tmp_path, storage, backend):
    start(local(tmp_path, storage, job_paths="gs"), job("exit", "0"))
    assert wait_over(backend).exit_code == 0
    text = log(backend).decode()
    assert "args ['exit', '0', '--job-dir', 'gs://graft/jobs/j1']" in text
    assert "its arguments hold gs:// URIs (GRAFT_ENGINE_JOB_PATHS=gs)" in text


def test_our_own_package_is_unpacked_without_pip(backend, storage, tmp_path):
    package = build_package()
    storage.write_bytes("gs://graft/own.tar.gz", package.data)
    start(backend, job("--help", package_uris=("gs://graft/own.tar.gz",), python_module=MODULE, job_dir=None))
    status = wait_over(backend)
    assert (status.exit_code, status.preparing) == (0, False), log(backend).decode()
    assert "usage: python -m pipeline.trainer.task" in log(backend).decode()
    directory = tmp_path / "engine" / "jobs" / "j1"
    assert json.loads((directory / "job.json").read_text())["prepare"] == []
    unpacked = {
        path.relative_to(directory / "site").as_posix(): path.read_bytes()
        for path in (directory / "site").rglob("*.py")
    }
    assert unpacked == read_modules(CLOSURE)


def test_starting_again_is_attaching(backend, tmp_path):
    start(backend, job("exit", "5"))
    start(LocalBackend(tmp_path, Storage({}), EngineSettings()), job("exit", "6"))
    assert wait_over(backend).exit_code == 5


def test_a_package_that_does_not_install_ends_while_preparing(backend, storage):
    storage.write_bytes("gs://graft/tiny-1.tar.gz", sdist({"setup.py": "raise SystemExit('no way')"}))
    start(backend, job("exit", "0", package_uris=("gs://graft/tiny-1.tar.gz",)))
    status = wait_over(backend)
    assert status.preparing
    assert status.exit_code == 1
    assert "no way" in log(backend).decode()


def test_a_requirement_that_cannot_be_had_is_named(backend, storage, tmp_path):
    data = wheel("tiny", {"tiny/task.py": PROGRAM}, requires=["numpy", "no-such-thing"])
    storage.write_bytes(f"gs://graft/{WHEEL}", data)
    start(local(tmp_path, storage, package_index="none"), job("exit", "0"))
    status = wait_over(backend)
    assert status.preparing
    assert status.problem.startswith("tiny 1 requires no-such-thing, and the runtime does not have it.")


def test_a_hostile_package_is_refused_before_it_is_unpacked(backend, storage, tmp_path):
    storage.write_bytes("gs://graft/tiny-1.tar.gz", sdist({"setup.py": SETUP, "../../escaped": "x"}))
    start(backend, job("exit", "0", package_uris=("gs://graft/tiny-1.tar.gz",)))
    assert "'tiny-1/../../escaped' leaves the package's directory" in wait_over(backend).problem
    assert list(tmp_path.rglob("escaped")) == []


def test_a_package_that_is_too_large_is_not_copied(tmp_path, storage):
    with pytest.raises(InvalidArgument, match="at most 10 are taken"):
        start(local(tmp_path, storage, max_package_bytes=10), job("exit", "0"))


class TestLimits:
    def test_a_job_that_uses_too_much_memory_is_ended_and_says_so(self, backend, tmp_path, storage):
        start(local(tmp_path, storage, job_memory_bytes=200_000_000), job("greedy"))
        status = wait_over(backend)
        assert status.problem.startswith("The job used ")
        assert "its limit is 200 MB" in status.problem
        assert status.exit_code in (128 + 15, 128 + 9)

    def test_a_job_of_too_many_processes_is_ended(self, backend, tmp_path, storage):
        start(local(tmp_path, storage, job_processes=8), job("crowd"))
        status = wait_over(backend)
        assert status.exit_code
        if not can_make_groups(tmp_path):
            assert "its limit is 8" in status.problem
        assert marked_processes(tmp_path / "engine" / "jobs" / "j1") == []

    def test_a_fork_bomb_stops_at_the_limit_and_its_end_is_the_end_of_all(self, backend, tmp_path, storage):
        if not can_make_groups(tmp_path):
            pytest.skip("needs a control group that this user may make")
        start(local(tmp_path, storage, job_processes=40), job("bomb"))
        wait_for(lambda: b"bomb " in log(backend), seconds=60)
        assert len(marked_processes(tmp_path / "engine" / "jobs" / "j1")) <= 41
        asyncio.run(backend.stop("j1"))
        assert marked_processes(tmp_path / "engine" / "jobs" / "j1") == []
        group = ControlGroup.of(tmp_path / "engine" / "jobs" / "j1")
        assert group is not None
        assert not group.path.exists()

    def test_a_job_has_the_processors_it_is_given_and_gives_way(self, backend, tmp_path, storage):
        start(local(tmp_path, storage, job_cpus=1, job_nice=7), job("cpus"))
        assert wait_over(backend).exit_code == 0
        assert b"cpus 1 1 " in log(backend)
        assert int(log(backend).split()[-1]) >= 7

    def test_the_memory_of_the_machine_is_shared_by_the_slots(self):
        one, two = (memory_limit(EngineSettings(training_slots=number)) for number in (1, 2))
        assert 0 < two <= one // 2 <= psutil.virtual_memory().total
        assert memory_limit(EngineSettings(job_memory_bytes=5)) == 5


class TestRestarts:
    def test_a_program_that_a_signal_ended_is_started_again(self, backend):
        start(backend, job("once"))
        assert wait_over(backend).exit_code == 0
        assert b"A signal ended the program (status 137). Restart 1." in log(backend)
        assert log(backend).count(b"file ") == 2

    def test_but_not_for_ever(self, backend, tmp_path, storage):
        start(local(tmp_path, storage, job_restarts=1), job("always"))
        assert wait_over(backend).exit_code == 128 + 11
        assert log(backend).count(b"file ") == 2

    def test_a_program_that_failed_by_itself_is_not(self, backend):
        start(backend, job("exit", "1"))
        assert wait_over(backend).exit_code == 1
        assert log(backend).count(b"file ") == 1


def test_what_a_program_leaves_behind_ends_with_it_however_it_hides(backend, tmp_path):
    start(backend, job("hidden"))
    assert wait_over(backend).exit_code == 0
    wait_for(lambda: not marked_processes(tmp_path / "engine" / "jobs" / "j1"))
    assert process_start(int(log(backend).split()[-1])) is None


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_a_program_that_kills_its_supervisor_does_not_outlive_its_job(tmp_path, storage, sandbox):
    backend = local(tmp_path, storage, sandbox=sandbox)
    start(backend, job("escape"))
    status = wait_over(backend)
    escaped = int(log(backend).split(b"escaped ")[1].split()[0])
    if status.state == RunState.VANISHED:  # the kernel let it kill: what is left has no parent of ours
        assert process_start(escaped) is not None
    asyncio.run(backend.stop("j1"))
    assert process_start(escaped) is None
    if Sandbox.detect(sandbox).abi >= SCOPE_ABI and sandbox != "off":
        assert (status.state, status.exit_code) == (RunState.EXITED, 1)
        assert b"PermissionError" in log(backend)


def test_tf_config_has_the_job_and_one_master(tmp_path):
    config = json.loads(job_environment(job("a"), tmp_path, {})["TF_CONFIG"])
    assert config["task"] == {"type": "master", "index": 0, "trial": ""}
    assert config["job"] == {"pythonModule": "tiny.task"}
    assert (config["environment"], len(config["cluster"]["master"])) == ("cloud", 1)


def test_a_missing_or_unknown_package_never_starts(backend):
    with pytest.raises(ObjectNotFound):
        start(backend, job(package_uris=("gs://graft/none.tar.gz",)))
    with pytest.raises(InvalidArgument, match=r"sdist .* or a wheel"):
        start(backend, job(package_uris=("gs://graft/tiny.exe",)))
    assert status_of(backend).state == RunState.ABSENT


def test_stopping_ends_what_ignores_the_signal_and_what_left_the_session(backend, tmp_path):
    start(backend, job("deaf"))
    wait_for(lambda: b"waiting" in log(backend))
    directory = tmp_path / "engine" / "jobs" / "j1"
    assert len(marked_processes(directory)) == 3  # the supervisor, the program, and what it started
    asyncio.run(backend.stop("j1"))
    assert marked_processes(directory) == []
    assert status_of(backend).is_over
    assert b"waiting" in log(backend)  # what it installed is gone, its log is not
    assert not {"site", "env", "packages", "work"} & {path.name for path in directory.iterdir()}


def test_a_job_past_its_time_is_ended_by_its_supervisor(backend):
    start(backend, job("deaf", max_running_seconds=0.2))
    status = wait_over(backend)
    assert status.timed_out
    assert status.exit_code == 128 + 9


def test_a_killed_supervisor_is_seen_as_vanished(backend, tmp_path):
    start(backend, job("wait"))
    wait_for(lambda: b"waiting" in log(backend))
    assert status_of(backend).state == RunState.RUNNING
    directory = tmp_path / "engine" / "jobs" / "j1"
    for process in marked_processes(directory):
        if "supervisor" in " ".join(process.cmdline()):
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
    env = job_environment(job(), tmp_path, environ)
    assert {"AWS_SECRET", "GRAFT_TOKEN"} & set(env) == set()
    assert env["PYTHONPATH"].split(":")[0] == str(tmp_path / "site")
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
