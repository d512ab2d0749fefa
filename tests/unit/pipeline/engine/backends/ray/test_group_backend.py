"""A job with several replicas on one machine: everything but Ray itself is real."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import pipeline
from pipeline.engine.backends import TrainingJob
from pipeline.engine.backends.ray import node, placement
from pipeline.engine.backends.run_files import AttemptFiles, Ending, JobFile
from pipeline.engine.backends.run_log import RunLog
from pipeline.storage import Storage
from tests.fakes import ray_driver
from tests.fakes.clock import wait_for

# What timeit runs as a statement, so that nothing has to be installed.
PROGRAM = """
import json, os, time
config = json.loads(os.environ['TF_CONFIG'])
task = config['task']['type']
print(task, 'of', json.dumps(config['cluster']), flush=True)
if task == 'worker' and {how!r} == 'fail':
    raise ValueError('no pictures')
if {how!r} != 'end':
    time.sleep(600)
"""
PATIENCE = 300
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def files(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(Storage({"graft": tmp_path / "bucket"}), "gs://graft/engine/ray/j1/1")


@pytest.fixture
def start(files: AttemptFiles, tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(how: str, driver: str = ray_driver.__file__) -> subprocess.Popen[bytes]:
            write_job(files, how, driver)
            (tmp_path / "scratch").mkdir()
            buckets = f"--buckets=graft={tmp_path}/bucket"
            command = [sys.executable, "-P", "-m", node.__name__, files.job_uri, buckets]
            env = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
            process = stack.enter_context(subprocess.Popen(command, env=env))
            stack.callback(process.kill)
            return process

        yield start


def write_job(files: AttemptFiles, how: str, driver: str) -> None:
    job = TrainingJob(
        job_id="j1",
        package_uris=(),
        python_module="timeit",
        args=("-n1", "-r1", PROGRAM.format(how=how)),
        job_dir=None,
        max_running_seconds=600.0,
        training_input={},
        replicas={"worker": 1},
    )
    settings = {
        "cancel_grace_seconds": 0.5,
        "ray_python": shlex.quote(sys.executable),
        "ray_driver_python": shlex.join([sys.executable, driver]),
    }
    files.create_job(
        JobFile(key="k", version=pipeline.__version__, workspace="gs://graft", job=job, settings=settings)
    )


def log_of(files: AttemptFiles) -> str:
    log = RunLog(attempts=(tuple(files.log_pieces()),))
    return log.read(files._storage, 0, log.size).decode()


def ending_of(files: AttemptFiles) -> Ending:
    ending = files.ending()
    assert ending is not None
    return ending


def test_all_replicas_get_one_cluster_and_the_chief_decides(
    start: Start, files: AttemptFiles, tmp_path: Path
):
    process = start("end")
    assert process.wait(PATIENCE) == 0
    assert ending_of(files).code == 0
    text = log_of(files)
    lines = dict(line.split(" of ", 1) for line in text.splitlines() if " of {" in line)
    assert sorted(lines) == ["[master 0] chief", "[worker 0] worker"], text
    (cluster,) = {json.dumps(json.loads(value)) for value in lines.values()}
    assert {role: len(hosts) for role, hosts in json.loads(cluster).items()} == {"chief": 1, "worker": 1}
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.soak
def test_one_replica_that_fails_ends_the_others_and_is_named(
    start: Start, files: AttemptFiles, tmp_path: Path
):
    process = start("fail")
    assert process.wait(PATIENCE) == 0
    assert (ending_of(files).code, ending_of(files).is_lost) == (1, False)
    assert ending_of(files).problem.startswith("The replica worker 0 exited with a non-zero status of 1.")
    assert "[master 0] chief" in log_of(files)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.soak
def test_sigterm_ends_all_replicas(start: Start, files: AttemptFiles, tmp_path: Path):
    process = start("wait")
    wait_for(lambda: log_of(files).count(" of {") == 2, seconds=PATIENCE)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert ending_of(files).code == 143
    assert [child for child in children if child.is_running()] == []


@pytest.mark.soak
def test_replicas_end_with_a_node_that_is_killed(start: Start, files: AttemptFiles, tmp_path: Path):
    process = start("wait")
    wait_for(lambda: log_of(files).count(" of {") == 2, seconds=PATIENCE)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(PATIENCE)
    wait_for(lambda: not any(map(is_alive, children)), seconds=PATIENCE)


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_an_interpreter_without_ray_is_named_with_its_own_words(
    start: Start, files: AttemptFiles, tmp_path: Path
):
    driver = tmp_path / "driver.py"
    driver.write_text("raise ModuleNotFoundError(\"No module named 'ray'\")")
    assert start("end", str(driver)).wait(PATIENCE) == 0
    problem = ending_of(files).problem
    assert "GRAFT_ENGINE_RAY_DRIVER_PYTHON" in problem
    assert "No module named 'ray'" in problem


def test_a_port_is_one_that_no_replica_has_and_nothing_listens_on():
    with socket.create_server(("127.0.0.1", 0)) as server:
        used = server.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = other.getsockname()[1]
        assert placement.free_port("127.0.0.1", [], [used, free]) == free
        with pytest.raises(OSError, match="has no free port"):
            placement.free_port("127.0.0.1", [free], [used, free])
