"""The real stack, started as `make demo` starts it, once for all tests of this folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import requests
import yaml

from pipeline.airflow_api import AirflowApi, TaskInstance
from pipeline.config import PROJECT_ROOT
from pipeline.storage import Storage

GRAFT = str(Path(sys.executable).with_name("graft"))
PATIENCE = 3
COMMAND_SECONDS = PATIENCE * 420
GUARD = """
import json, subprocess, sys
environ = json.loads(sys.stdin.readline())
sys.stdin.read()
subprocess.run([sys.argv[1], "down"], env=environ)
"""


@dataclass(frozen=True)
class Stack:
    """One GRAFT_HOME, and the command line on it."""

    home: Path
    classifiers: Path
    gallery_port: int
    demo: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    command_seconds: float = COMMAND_SECONDS

    @property
    def environ(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GRAFT_", "AIRFLOW"))
        }
        return kept | {
            "GRAFT_HOME": str(self.home),
            "GRAFT_CLASSIFIERS": str(self.classifiers),
            "GRAFT_DAGS": f"{Path(__file__).parent / 'dags'}:{PROJECT_ROOT / 'docs' / 'examples'}",
            "GRAFT_FETCH_ALLOW": f"127.0.0.1:{self.gallery_port}",
            "GRAFT_USERS": "viewer:viewer",
        }

    @property
    def storage(self) -> Storage:
        return Storage.from_environment(self.environ)

    def graft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GRAFT, *arguments],
            env=self.environ,
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=self.command_seconds,
            check=False,
        )

    def graft_json(self, *arguments: str, code: int = 0) -> Any:
        result = self.graft(*arguments, "--json")
        assert result.returncode == code, result.stdout + result.stderr
        return json.loads(result.stdout)

    def start_graft(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GRAFT, *arguments],
            env=self.environ,
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @cached_property
    def status(self) -> Any:
        """What `graft status` said first: a home keeps its ports, its tokens and its passwords.

        To ask each time would cost a second of a processor for each look at a run.
        """
        return self.graft_json("status")

    def engine_get(self, path: str) -> Any:
        engine = self.status["engine"]
        url = f"{engine['url']}/v1/projects/{engine['project']}/{path}"
        answer = requests.get(url, headers={"Authorization": f"Bearer {engine['token']}"}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    @cached_property
    def _airflow(self) -> AirflowApi:
        airflow = self.status["airflow"]
        return AirflowApi(airflow["url"], airflow["username"], airflow["password"])

    def airflow(self) -> AirflowApi:
        return self._airflow

    def processes(self) -> list[psutil.Process]:
        """Every living process that works in this home or was told of it, whoever its parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                # Airflow's components rewrite command line and environment; all were started in the home.
                said = [*process.cmdline(), *process.environ().values(), process.cwd()]
                told = any(str(self.home) in text for text in said)
                if told and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


class ClassifierDag:
    """A classifier of the tests' own, and its DAG over REST.

    Args:
        stack: Where it runs; its YAML is written there.
        classifier: What the YAML says.
    """

    def __init__(self, stack: Stack, classifier: dict[str, Any]) -> None:
        self.stack, self.name = stack, str(classifier["name"])
        (stack.classifiers / f"{self.name}.yaml").write_text(yaml.safe_dump(classifier))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.stack.airflow()._call(method, f"/api/v2/{path}", body)

    def tasks(self, run_id: str) -> dict[str, list[TaskInstance]]:
        tasks: dict[str, list[TaskInstance]] = {}
        for task in self.stack.airflow().task_instances(self.name, run_id):
            tasks.setdefault(task.task_id, []).append(task)
        return tasks

    def states(self, run_id: str) -> dict[str, set[str | None]]:
        return {name: {task.state for task in tasks} for name, tasks in self.tasks(run_id).items()}

    def note(self, run_id: str) -> str:
        return str(self.call("GET", f"dags/{self.name}/dagRuns/{quote(run_id, safe='')}")["note"])


def wait_until(
    condition: Callable[[], Any], *, seconds: float, what: str | Callable[[], str], pause: float = 0.3
) -> Any:
    """Return what the condition returns once it holds; `what` says what did not come, if only then.

    Args:
        condition: Asked again and again.
        seconds: What it takes at most on a quiet machine; a loaded one gets three times as many.
        what: What is waited for.
        pause: Seconds between two questions.
    """
    deadline = time.monotonic() + PATIENCE * seconds
    while not (found := condition()):
        if time.monotonic() >= deadline:
            pytest.fail(f"no {what if isinstance(what, str) else what()} within {PATIENCE * seconds} s")
        time.sleep(pause)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def ended_with_us(stack: Stack) -> Iterator[None]:
    """End the stack even if the tests are killed: a child waits until our end of a pipe is closed."""
    guard = subprocess.Popen(
        [sys.executable, "-c", GUARD, GRAFT], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert guard.stdin is not None
    print(json.dumps(stack.environ), file=guard.stdin, flush=True)  # its own must not name the home
    try:
        yield
    finally:
        guard.kill()
        guard.stdin.close()
        guard.wait()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack after `graft demo`: what `make demo` runs once ./.venv is there."""
    stack = Stack(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("classifiers"), _free_port())
    with ended_with_us(stack):
        try:
            stack.demo.append(stack.graft("demo"))
            assert stack.demo[0].returncode == 0, stack.demo[0].stdout + stack.demo[0].stderr
            yield stack
        finally:
            stopped = stack.graft("down")
    assert stopped.returncode == 0, stopped.stderr
    wait_until(lambda: not stack.processes(), seconds=10, what="end of every process")
