"""A team's demo: PostgreSQL, Redis, two engines, Airflow on two Celery workers. `make test-team` runs it."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Stack, ended_with_us

pytestmark = [
    pytest.mark.skipif(os.environ.get("GRAFT_TEST_TEAM") != "1", reason="`make test-team` runs it"),
    pytest.mark.timeout(2400),
]
DEMO_SECONDS = 1500
STAGES = (
    *("fetch", "clean", "pack", "train", "evaluate", "gate"),
    *("create_version", "smoke_test", "promote", "publish"),
)


@dataclass(frozen=True)
class TeamStack(Stack):
    """A stack whose temporary files are in a directory of its own."""

    scratch: Path = field(default=Path())

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | {"TMPDIR": str(self.scratch)}


@pytest.fixture(scope="module")
def stack() -> Iterator[TeamStack]:
    # pytest's own directories are closed to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="graft-team-") as directory:
        root = Path(directory)
        root.chmod(0o711)
        for name in ("classifiers", "scratch"):
            (root / name).mkdir()
        places = root / "home", root / "classifiers", 1
        team = TeamStack(*places, command_seconds=DEMO_SECONDS, scratch=root / "scratch")
        with ended_with_us(team):
            try:
                team.demo.append(team.graft("demo", "--profile", "team", "--workers", "2"))
                yield team
            finally:
                team.graft("down")


def passwords(stack: Stack) -> list[str]:
    files = [*(stack.home / "servers").glob("*.password"), stack.home / "servers" / "postgres.superuser"]
    return [path.read_text().strip() for path in files]


def test_demo_ends_like_that_of_a_laptop(stack: TeamStack) -> None:
    (demo,) = stack.demo
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert re.search(r"gate\s+accepted", demo.stdout)
    for stage in STAGES:
        assert re.search(rf"^  {stage}\s+[\d.]+$", demo.stdout, re.M), stage
    for label in ("brick", "grass", "gravel"):
        assert re.search(rf"^  {label}\s+{label}\s+[\d.]+$", demo.stdout, re.M), label


def test_every_part_runs_and_answers(stack: TeamStack) -> None:
    status = stack.graft_json("status")
    assert status["state"] == "running"
    names = [process["name"] for process in status["processes"]]
    assert names[:4] == ["postgres", "redis", "engine", "engine-2"]
    assert names[-2:] == ["airflow-worker-1", "airflow-worker-2"]
    findings = json.loads(stack.graft("doctor", "--json").stdout)["findings"]
    states = {finding["check"]: finding["state"] for finding in findings}
    for check in ("engine database", "Airflow database", "broker", "workers", "engine", "engine-2"):
        assert states[check] == "ok", findings


def test_both_workers_ran_tasks(stack: TeamStack) -> None:
    for number in (1, 2):
        text = (stack.home / "logs" / f"airflow-worker-{number}.log").read_text()
        assert re.search(r"Task execute_workload\S* succeeded", text), text[-2000:]


def test_no_password_is_in_a_log_an_argument_or_a_variable(stack: TeamStack) -> None:
    words = passwords(stack)
    assert len(words) == 3
    logs = [path for path in stack.home.rglob("*.log") if path.is_file()]
    assert len(logs) > 8
    shown = [str(path) for path in logs if any(word in path.read_text(errors="replace") for word in words)]
    assert shown == []
    processes = stack.processes()
    assert len(processes) > 10
    for process in processes:
        text = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(word in text for word in words), process.name()


def test_the_other_profile_is_refused_by_name(stack: TeamStack) -> None:
    refused = stack.graft("up", "--profile", "laptop")
    assert refused.returncode != 0
    assert "has the state of the profile team" in " ".join(refused.stderr.split())


def test_down_leaves_no_process_no_port_and_no_file_outside_the_home(stack: TeamStack) -> None:
    members = stack.processes()
    ports = set(json.loads((stack.home / "stack.json").read_text())["ports"].values())
    stopped = stack.graft("down")
    assert stopped.returncode == 0, stopped.stderr
    _, left = psutil.wait_procs(members, timeout=10)  # the machine's first process may reap them later
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert stack.processes() == []
    listening = {found.laddr.port for found in psutil.net_connections("inet") if found.status == "LISTEN"}
    assert ports & listening == set()
    assert list(stack.scratch.iterdir()) == []
    assert "database system is shut down" in (stack.home / "logs" / "postgres.log").read_text()
