"""Workers on two hosts, each a network namespace, for a team's stack. `make test-team` runs it, as root."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.stack.state import load_state
from tests.e2e.conftest import ended_with_us, wait_until
from tests.e2e.hosts_driver import MIDDLE, Host, HostsStack, network, server, shared_root

log = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.skipif(os.environ.get("GRAFT_TEST_TEAM") != "1", reason="`make test-team` runs it"),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and `ip netns`"),
    pytest.mark.soak,
    pytest.mark.timeout(3600),
]
FEW, MANY = 600, 4000
LATENCY = "0.02"
WANTED = 1.6
GATEWAY = f"{MIDDLE}:8470"


@pytest.fixture(autouse=True)
def _only_loopback() -> None:
    """Let the tests reach the bridge, where store and site are; in place of the guard of all tests."""


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with shared_root("graft-hosts-") as root:
        yield root


@pytest.fixture(scope="module")
def hosts(root: Path) -> Iterator[list[Host]]:
    environ: dict[str, str] = {}
    made = [Host(number, root / f"host{number}", core, environ) for number, core in ((2, 0), (3, 1))]
    with network(made):
        yield made


@pytest.fixture(scope="module")
def stack(root: Path, hosts: list[Host]) -> Iterator[HostsStack]:
    """A stack without workers of its own, in the middle."""
    with server("s3", MIDDLE) as store, server("site", MIDDLE, LATENCY, str(MANY)) as site:
        stack = HostsStack(
            *(root / "home", root / "classifiers", 1),
            command_seconds=1500,
            store_port=store,
            site_port=site,
            scratch=root / "scratch",
        )
        for host in hosts:
            host.environ.update(stack.joined_environ)
        with ended_with_us(stack):
            try:
                started = stack.graft("up", "--profile", "team", "--workers", "0", "--address", MIDDLE)
                assert started.returncode == 0, started.stdout + started.stderr
                yield stack
            finally:
                for host in hosts:
                    host.graft("down")
                stack.graft("down")


@pytest.fixture(scope="module")
def join_file(stack: HostsStack, root: Path) -> Path:
    """The stack's file, copied as a person does."""
    return Path(shutil.copy(stack.home / "servers" / "join.json", root / "copied.json"))


@pytest.fixture
def joined(stack: HostsStack, hosts: list[Host], join_file: Path) -> list[Host]:
    for host in hosts:
        if not any(name.endswith(name_of(host)) for name in stack.machines):
            done = host.join(GATEWAY, "--token-file", str(join_file), "--slots", "1")
            assert done.returncode == 0, done.stdout + done.stderr
    assert list(stack.machines.values()) == [1, 1]
    return hosts


def name_of(host: Host) -> str:
    """Return what the stack calls a host that has joined."""
    file = host.home / "servers" / "link.json"
    return str(json.loads(file.read_text())["name"]) if file.exists() else "none"


def seconds_of(tasks: list[dict[str, Any]], *names: str) -> float:
    """Return the wall time of some steps: from the first start to the last end of each."""
    total = 0.0
    for name in names:
        ours = [task for task in tasks if task["task_id"] == name]
        began = min(datetime.fromisoformat(task["start_date"]) for task in ours)
        ended = max(datetime.fromisoformat(task["end_date"]) for task in ours)
        seconds = (ended - began).total_seconds()
        log.info("%s: %.1f s; each: %s", name, seconds, [round(task["duration"], 1) for task in ours])
        total += seconds
    return total


def test_a_second_worker_of_one_core_makes_fetch_and_pack_faster(
    stack: HostsStack, hosts: list[Host], join_file: Path
) -> None:
    first, second = hosts
    for name in ("one_worker", "two_workers"):
        stack.write_list(name, MANY)
    times = []
    for host, name in ((first, "one_worker"), (second, "two_workers")):
        done = host.join(GATEWAY, "--token-file", str(join_file))
        assert done.returncode == 0, done.stdout + done.stderr
        # What the first run has fetched would be found in the bucket.
        stack.bucket.delete_tree("gs://graft/blobs")
        stack.start_run(name, "run")
        times.append(seconds_of(stack.end_run(name, "run"), "fetch", "pack"))
    assert list(stack.machines.values()) == [1, 1]  # by default a slot for each core
    ratio = times[0] / times[1]
    log.info("fetch and pack of %d pictures: %.1f s, then %.1f s: %.2f", MANY, *times, ratio)
    downloads = stack.downloads()
    log.info("downloads: %s", downloads)
    assert min(downloads[host.address] for host in hosts) > MANY // 4
    assert ratio >= WANTED


def test_a_host_that_is_cut_off_leaves_its_chunk_to_the_other(stack: HostsStack, joined: list[Host]) -> None:
    first, second = joined
    stack.write_list("cut_off", FEW)
    before = stack.downloads()

    def count(host: Host) -> int:
        return stack.downloads().get(host.address, 0) - before.get(host.address, 0)

    stack.start_run("cut_off", "run")
    wait_until(lambda: min(map(count, joined)) >= 20, seconds=180, what="downloads of both hosts")
    kept = wait_until(lambda: stack.finished("cut_off"), seconds=60, what="both journals in the bucket")
    wait_until(lambda: stack.has_logs("cut_off", "fetch", 2), seconds=60, what="both logs in the bucket")
    second.cut_off()
    lost = count(second)
    log.info("cut off after %d and %d downloads, of which the bucket knows %s", count(first), lost, kept)
    try:
        tasks = stack.end_run("cut_off", "run")
        fetches = [task for task in tasks if task["task_id"] == "fetch"]
        assert sorted(task["try_number"] for task in fetches) == [1, 2]
        assert list(stack.machines.values()) == [1]
        downloads = sum(map(count, joined))
        log.info("downloads of %d pictures: %d", FEW, downloads)
        assert FEW <= downloads <= FEW + lost - min(kept)
        (again,) = [task["map_index"] for task in fetches if task["try_number"] == 2]
        for try_number in (1, 2):  # the first of which ran on the host that is still cut off
            events = stack.log_of("cut_off", "run", "fetch", again, try_number)
            log.info("log of try %d: %s", try_number, events)
            assert any("DAG bundles loaded" in event for event in events), events
    finally:
        second.plug_in()
    disturbed = stack.read_dataset("cut_off")
    assert len(disturbed) > 3
    for folder in ("datasets/cut_off", "blobs"):
        stack.bucket.delete_tree(f"gs://graft/{folder}")
    wait_until(lambda: len(stack.machines) == 2, seconds=120, what="return of the host")
    stack.delete_run("cut_off", "run")  # a dataset version names its run
    stack.start_run("cut_off", "run")
    tasks = stack.end_run("cut_off", "run")
    assert {task["try_number"] for task in tasks} == {1}
    undisturbed = stack.read_dataset("cut_off")
    assert sorted(disturbed) == sorted(undisturbed)
    assert [uri for uri in disturbed if disturbed[uri] != undisturbed[uri]] == []


def test_both_sides_show_who_has_joined(stack: HostsStack, joined: list[Host]) -> None:
    status = stack.graft_json("status")
    assert status["address"] == GATEWAY
    assert sorted(each["name"] for each in status["machines"]) == sorted(map(name_of, joined))
    findings = json.loads(stack.graft("doctor", "--json").stdout)["findings"]
    states = {finding["check"]: finding["state"] for finding in findings}
    assert states["gateway"] == states["machines"] == "ok", findings
    for host in joined:
        shown = json.loads(host.graft("status", "--json").stdout)
        assert (shown["state"], shown["joined"]) == ("running", GATEWAY)
        found = {
            each["check"]: each for each in json.loads(host.graft("doctor", "--json").stdout)["findings"]
        }
        assert found["link"]["state"] == found["workers"]["state"] == "ok", found


def test_no_secret_is_in_an_argument_a_variable_or_a_log_of_a_host(
    stack: HostsStack, joined: list[Host], join_file: Path
) -> None:
    words = [path.read_text().strip() for path in (stack.home / "servers").glob("*.password")]
    words += json.loads((stack.home / "secrets.json").read_text()).values()
    words = [word for word in words if isinstance(word, str)]
    words.append(json.loads(join_file.read_text())["token"])
    assert len(words) == 8
    for host in joined:
        processes = host.processes()
        assert len(processes) >= 4
        for process in processes:
            text = " ".join([*process.cmdline(), *process.environ().values()])
            assert not any(word in text for word in words), process.name()
        logs = [path for path in host.home.rglob("*.log") if path.is_file()]
        assert len(logs) >= 2
        shown = [path for path in logs if any(word in path.read_text(errors="replace") for word in words)]
        assert shown == []


def test_down_ends_what_a_host_runs_and_the_stack_sees_it_leave(
    stack: HostsStack, joined: list[Host]
) -> None:
    first, second = joined
    done = second.graft("down")
    assert re.search(r"[1-9]\d* processes ended", done.stdout), done.stdout + done.stderr
    wait_until(lambda: not second.processes(), seconds=20, what="end of every process")
    wait_until(lambda: list(stack.machines) == [name_of(first)], seconds=60, what="leave")


def test_only_the_gateway_listens_for_other_hosts(stack: HostsStack, hosts: list[Host]) -> None:
    state = load_state(stack.home)
    ports = [state.engine_port, state.airflow_port, *state.ports.values()]
    code = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
    closed = [hosts[0].python(code, MIDDLE, str(port)).returncode != 0 for port in ports]
    assert all(closed), dict(zip(ports, closed, strict=True))
    assert hosts[0].python(code, MIDDLE, "8470").returncode == 0
