"""Servers on three hosts, each a network namespace, behind a team's address. `make test-team`, as root."""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from pipeline.stack.front import front_folder
from tests.e2e.conftest import ended_with_us, wait_until
from tests.e2e.hosts_driver import MIDDLE, Host, HostsStack, network, server, shared_root
from tests.fakes.pictures import encode
from tests.integration.test_engine_replicas import lateness
from tests.integration.tiny_heads import Clients, convert_network, write_model

log = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.skipif(os.environ.get("GRAFT_TEST_TEAM") != "1", reason="`make test-team` runs it"),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and `ip netns`"),
    pytest.mark.skipif(not Path("/usr/sbin/haproxy").exists(), reason="needs Debian's haproxy"),
    pytest.mark.soak,
    pytest.mark.timeout(3600),
]
NUM_CLIENTS, NUM_ANSWERS, NUM_SWAPS = 8, 5000, 50
AGAIN_SECONDS, JOIN_SECONDS, STALE_SECONDS = 15, 5, 2
SLOWER = 3
GATEWAY, FRONT_PORT = f"{MIDDLE}:8470", 8471
LABELS = [str(number) for number in range(4)]


@pytest.fixture(autouse=True)
def _only_loopback() -> None:
    """Let the tests reach the bridge, where store and hosts are; in place of the guard of all tests."""


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with shared_root("graft-servers-") as root:
        yield root


@pytest.fixture(scope="module")
def hosts(root: Path) -> Iterator[list[Host]]:
    environ: dict[str, str] = {}
    made = [Host(number, root / f"host{number}", number % 2, environ) for number in (2, 3, 4)]
    with network(made):
        yield made


@pytest.fixture(scope="module")
def stack(root: Path, hosts: list[Host]) -> Iterator[HostsStack]:
    """A stack in the middle with four versions of a model, and a copy of its join file."""
    with server("s3", MIDDLE) as store:
        stack = HostsStack(
            *(root / "home", root / "classifiers", 1),
            command_seconds=1500,
            store_port=store,
            site_port=1,
            scratch=root / "scratch",
        )
        for host in hosts:
            host.environ.update(stack.joined_environ)
        with ended_with_us(stack):
            try:
                started = stack.graft(
                    *("up", "--profile", "team", "--workers", "0"),
                    *("--address", MIDDLE, "--front", f"127.0.0.1:{FRONT_PORT}"),
                )
                assert started.returncode == 0, started.stdout + started.stderr
                shutil.copy(stack.home / "servers" / "join.json", root / "join.json")
                deploy(stack, root / "models")
                yield stack
            finally:
                for host in hosts:
                    host.graft("down")
                stack.graft("down")


def call(stack: HostsStack, method: str, path: str, body: Any = None) -> Any:
    """Return what the leader answers."""
    url = f"{stack.status['engine']['url']}/v1/projects/local/{path}"
    answer = requests.request(method, url, json=body, headers=headers(stack), timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def headers(stack: HostsStack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.status['engine']['token']}"}


def deploy(stack: HostsStack, folder: Path) -> None:
    network = convert_network(folder.with_suffix(".tflite"))
    call(stack, "POST", "models", {"name": "m"})
    for label in LABELS:
        write_model(folder / label, network, int(label))
        for path in (folder / label).rglob("*"):
            if path.is_file():
                uri = f"gs://graft/exports/{label}/{path.relative_to(folder / label)}"
                stack.bucket.write_bytes(uri, path.read_bytes())
        body = {"name": f"v{label}", "deploymentUri": f"gs://graft/exports/{label}"}
        name = call(stack, "POST", "models/m/versions", body)["name"].removeprefix("projects/local/")

        def has_ended(name: str = name) -> bool:
            found = call(stack, "GET", name)
            assert "error" not in found, found
            return bool(found.get("done"))

        wait_until(has_ended, seconds=120, what=f"version {label}")


@pytest.fixture(scope="module")
def serving(stack: HostsStack, hosts: list[Host], root: Path) -> list[Host]:
    """Two hosts that serve."""
    for host in hosts[:2]:
        join(host, root)
    assert len(stack.machines) == 2
    return hosts[:2]


def join(host: Host, root: Path) -> None:
    done = host.serve(GATEWAY, "--token-file", str(root / "join.json"))
    assert done.returncode == 0, done.stdout + done.stderr


def clients_of(stack: HostsStack) -> Clients:
    picture = {"b64": base64.b64encode(encode(Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG")).decode()}
    body = json.dumps({"instances": [{"key": "k", "inputs": picture}], "signature_name": "keyed"}).encode()
    return Clients([FRONT_PORT], body, headers=headers(stack), count=NUM_CLIENTS)


def answered(stack: HostsStack, host: Host) -> float:
    """Return how many predictions a server has answered; 0 before the front knows it."""
    name = json.loads((host.home / "servers" / "link.json").read_text())["name"]
    certificate = front_folder(stack.home) / f"{name}.pem"
    if not certificate.exists():
        return 0
    url = f"https://{host.address}:8472/metrics"
    text = requests.get(url, headers=headers(stack), timeout=60, verify=str(certificate)).text
    return sum(map(float, re.findall(r"^graft_predictions_total\{.* (\S+)$", text, re.MULTILINE)))


def wait_for_answers(clients: Clients, count: int) -> None:
    wanted = len(clients.answers) + count
    wait_until(lambda: len(clients.answers) >= wanted, seconds=1200, what=f"{count} answers")


def p99(clients: Clients, begin: float, end: float) -> float:
    taken = [done - asked for asked, done, _ in clients.answers if begin <= asked < end]
    return float(np.percentile(taken, 99))


def report(clients: Clients, what: str, before: float, lost_at: float) -> None:
    """Fail if any request did, or if answers are slow again after the time that they may be."""
    again = p99(clients, lost_at + AGAIN_SECONDS, time.monotonic())
    log.info("%s: %d answers, %d failed", what, len(clients.answers), len(clients.failures))
    log.info("p99 %.3f s before, %.3f s after %d s", before, again, AGAIN_SECONDS)
    assert clients.failures == []
    assert len(clients.answers) >= NUM_ANSWERS
    assert again < SLOWER * before


def test_the_servers_are_shown_and_answer(stack: HostsStack, serving: list[Host]) -> None:
    status = stack.graft_json("status")
    assert status["serves"] == f"127.0.0.1:{FRONT_PORT}"
    assert [each["serves"] for each in status["machines"]] == [f"{host.address}:8472" for host in serving]
    before = [answered(stack, host) for host in serving]
    clients = clients_of(stack)
    try:
        wait_for_answers(clients, 200)
    finally:
        clients.stop()
    assert clients.failures == []
    assert all(answered(stack, host) > count for host, count in zip(serving, before, strict=True))


def test_changes_of_the_default_fail_no_prediction_and_are_seen_soon(
    stack: HostsStack, serving: list[Host]
) -> None:
    def choose(label: str) -> None:
        call(stack, "POST", f"models/m/versions/v{label}:setDefault", {})

    choose("0")
    time.sleep(STALE_SECONDS)
    periods, chance = [("0", time.monotonic())], random.Random(1)
    clients = clients_of(stack)
    try:
        for _ in range(NUM_SWAPS):
            label = chance.choice([each for each in LABELS if each != periods[-1][0]])
            periods.append((label, time.monotonic()))
            choose(label)
            time.sleep(chance.choice((0, 0.1, 0.5, 3)))
        time.sleep(STALE_SECONDS + 1)
    finally:
        clients.stop()
    late = [lateness(periods, *answer) for answer in clients.answers]
    log.info("%d answers, %d failed, the latest %.3f s too late", len(late), len(clients.failures), max(late))
    assert clients.failures == []
    assert max(late) < STALE_SECONDS


def test_a_killed_server_and_one_that_is_cut_off_fail_no_prediction(
    stack: HostsStack, serving: list[Host]
) -> None:
    first, second = serving
    for what in ("killed", "cut off"):
        clients = clients_of(stack)
        began = time.monotonic()
        try:
            wait_for_answers(clients, NUM_ANSWERS // 2)
            lost_at = time.monotonic()
            before = p99(clients, began, lost_at)
            if what == "killed":
                engine = [each for each in first.processes() if "pipeline.engine" in each.cmdline()]
                for process in engine:
                    process.kill()
            else:
                second.cut_off()
            time.sleep(AGAIN_SECONDS)
            wait_for_answers(clients, NUM_ANSWERS // 2)
        finally:
            clients.stop()
            second.plug_in()
        report(clients, what, before, lost_at)
    wait_until(lambda: len(stack.machines) == 2, seconds=120, what="return of the host")


def test_a_third_gets_predictions_as_soon_as_it_joins_and_none_once_it_leaves(
    stack: HostsStack, hosts: list[Host], serving: list[Host], root: Path
) -> None:
    third = hosts[2]
    clients = clients_of(stack)
    try:
        join(third, root)
        joined_at = time.monotonic()
        wait_until(lambda: answered(stack, third) > 0, seconds=60, what="traffic", pause=0.1)
        seconds = time.monotonic() - joined_at
        done = third.graft("down")
        assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: len(stack.machines) == 2, seconds=60, what="leave")
        wait_for_answers(clients, 200)
    finally:
        clients.stop()
    counts = len(clients.answers), len(clients.failures)
    log.info("traffic after %.2f s; %d answers, %d failed", seconds, *counts)
    assert clients.failures == []
    assert seconds < JOIN_SECONDS
