"""The hosts of `graft ray up`, without Ray: what a program on one of them reaches (`make test-ray`)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.stack.ray_cluster import RayCluster
from tests.fakes.clock import wait_for
from tests.integration.hostile_targets import (
    HOSTILE,
    check_that_this_machine_reaches,
    reached,
    read_report,
    targets,
)

pytestmark = pytest.mark.skipif(os.environ.get("GRAFT_TEST_RAY") != "1", reason="`make test-ray` runs it")


class HostsWithoutRay(RayCluster):
    """A cluster whose hosts run a program in place of Ray, again and again."""

    def __init__(self, home: Path, bucket: Path, words: list[str]) -> None:
        super().__init__(home, directories=[bucket], ray=Path(sys.executable))
        self._words = words

    def _command(self, name: str, cpus: int) -> list[str]:
        return [sys.executable, *self._words]

    def wait_for_hosts(self, count: int) -> None:
        wait_for(lambda: len(self.status.hosts) == count)


@contextmanager
def running(home: Path, words: list[str]) -> Iterator[HostsWithoutRay]:
    bucket = home / "buckets" / "graft"
    bucket.mkdir(parents=True, exist_ok=True)
    shutil.copy(HOSTILE, bucket / "task.py")  # hosts see none of this project's tests
    cluster = HostsWithoutRay(home, bucket, words)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def test_a_program_on_a_host_reaches_neither_the_home_nor_this_machine(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as engine:
        with targets(tmp_path, engine.getsockname()[1]) as asked:
            asked["files"].remove("/etc/shadow")  # nothing but the sandbox of a job hides it
            check_that_this_machine_reaches(asked)
            task = tmp_path / "buckets" / "graft" / "task.py"
            with running(tmp_path, [str(task), json.dumps(asked)]) as cluster:
                wait_for(lambda: "REPORT " in text_of(cluster.log("node1")))
                report = read_report(text_of(cluster.log("node1")))
    assert reached(report) == []
    assert report["num_secrets"] == 0
    assert {name for _, name in report["network"]} == {"lo", "eth0"}


def test_hosts_reach_each_other_and_a_host_that_is_cut_off_reaches_none(tmp_path: Path):
    program = """
import socket, sys, time
if open('/etc/hosts').read().split()[-1] == 'head':
    server = socket.create_server(('10.77.0.1', 8265))
    while True:
        server.accept()[0].sendall(b'head')
while True:
    try:
        connection = socket.create_connection(('10.77.0.1', 8265), 1)
        sys.stdout.write(f'REACHED {connection.recv(4).decode()}\\n')
    except OSError as error:
        sys.stdout.write(f'FAILED {error}\\n')
    sys.stdout.flush()
    time.sleep(0.1)
"""
    with running(tmp_path, ["-c", program]) as cluster:
        node = cluster.log("node1")
        wait_for(lambda: "REACHED head" in text_of(node))
        with socket.create_connection(("127.0.0.1", int(cluster.status.address.rpartition(":")[2]))) as port:
            assert port.recv(4) == b"head"
        cluster.cut_off("node1")
        wait_for(lambda: text_of(node).rstrip().rpartition("\n")[2].startswith("FAILED"))
        cluster.kill("node1")
        assert cluster.status.hosts == ("head",)
        node.unlink()
        cluster.start_host("node1")
        wait_for(lambda: "REACHED head" in text_of(node))


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
