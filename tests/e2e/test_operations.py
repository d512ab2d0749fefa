"""A stack on the state of an older version; its backup under load, and the restore on an empty machine."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.config import PROJECT_ROOT
from pipeline.stack.snapshot import BackupFolder
from tests.e2e.conftest import GRAFT, Stack, ended_with_us, wait_until
from tests.older_home import unpack_home

KILLS = 10
ANSWER = {"predictions": [{"outputs": 6.0}]}


@contextmanager
def running(home: Path) -> Iterator[Stack]:
    """Start a stack on a home, and end it."""
    (home.parent / "classifiers").mkdir(exist_ok=True)
    stack = Stack(home, home.parent / "classifiers", 1)
    with ended_with_us(stack):
        try:
            stack.graft_json("up")
            yield stack
        finally:
            stopped = stack.graft("down")
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(unpack_home(tmp_path_factory.mktemp("older") / "home")) as stack:
        yield stack


def predict(stack: Stack, model: str = "numbers") -> Any:
    engine = stack.graft_json("status")["engine"]
    url = f"{engine['url']}/v1/projects/local/models/{model}:predict"
    headers = {"Authorization": f"Bearer {engine['token']}"}

    def answer() -> Any:
        response = requests.post(url, json={"instances": [3.0]}, headers=headers, timeout=60)
        return None if response.status_code == 503 else response.json()  # while it is being loaded

    return wait_until(answer, seconds=180, what="answer", pause=1)


def broken(stack: Stack) -> list[dict[str, str]]:
    findings = json.loads(stack.graft("doctor", "--json").stdout)["findings"]
    return [finding for finding in findings if finding["state"] == "broken"]


class TestOlderState:
    def test_up_works_and_everything_answers_as_before(self, older: Stack) -> None:
        assert older.graft_json("status")["state"] == "running"
        assert predict(older) == ANSWER
        assert predict(older, "numbers/versions/v1") == {"predictions": [{"outputs": 3.0}]}
        assert "v_09814bf8a1a6" in json.dumps(older.graft_json("history", "surfaces"))
        assert broken(older) == []

    def test_files_have_format_numbers_now(self, older: Stack) -> None:
        assert json.loads((older.home / "stack.json").read_text())["format"] == 1
        registration = json.loads((older.home / "buckets/graft/engine/models/numbers.json").read_text())
        assert (registration["format"], registration["default_version"]) == (1, "v2")


@contextmanager
def load(stack: Stack) -> Iterator[list[Any]]:
    """Predict without pause, and write objects as runs do."""
    answers: list[Any] = []
    engine = stack.graft_json("status")["engine"]
    url = f"{engine['url']}/v1/projects/local/models/numbers:predict"
    headers = {"Authorization": f"Bearer {engine['token']}"}
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            answers.append(requests.post(url, json={"instances": [3.0]}, headers=headers, timeout=60).json())
            stack.storage.write_json("gs://graft/datasets/busy/latest.json", {"version": f"d_{number}"})
            number += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def kill_after(stack: Stack, seconds: float, *arguments: str) -> None:
    """Run a command and kill it after that time, unless it has ended by then."""
    process = subprocess.Popen(
        [GRAFT, *arguments],
        env=stack.environ,
        cwd=PROJECT_ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.wait(30)


@pytest.mark.soak
@pytest.mark.timeout(1800)
class TestBackup:
    def test_a_backup_under_load_restores_on_an_empty_machine(self, older: Stack, tmp_path: Path) -> None:
        target, chance = str(tmp_path / "backup"), random.Random(0)
        folder = BackupFolder(older.storage, target)
        with load(older) as answers:
            older.graft_json("backup", target, "--secrets")
            began = time.monotonic()
            older.graft_json("backup", target, "--secrets")
            seconds = time.monotonic() - began  # of a later one, which is shorter
            for _ in range(KILLS):
                kill_after(older, chance.uniform(0.3, 1.1) * seconds, "backup", target, "--secrets")
                latest = folder.find_latest()
                assert latest is not None
                assert set(latest.objects) >= {
                    "models/numbers/v2/saved_model.pb",
                    "exports/v1/saved_model.pb",
                }
            older.graft_json("backup", target, "--secrets")
        assert len(answers) > KILLS
        assert all(answer == ANSWER for answer in answers)
        empty = Stack(tmp_path / "empty" / "home", tmp_path, 1)
        for number in range(KILLS):
            kill_after(empty, chance.uniform(0.3, 1.1) * seconds, "restore", target)
            engine = empty.home / "engine"  # all of it or nothing
            assert not engine.exists() or (engine / "engine.db").stat().st_size, number
        empty.graft_json("restore", target)
        history = older.graft_json("history", "surfaces")
        with running(empty.home) as restored:
            assert predict(restored) == ANSWER
            assert restored.graft_json("history", "surfaces") == history
            assert broken(restored) == []
            assert (
                restored.graft_json("status")["engine"]["token"]
                == older.graft_json("status")["engine"]["token"]
            )
