"""What four clients see while the machine fails under an engine: nothing wrong, lost or done twice.

Each fault happens at a random moment. While the engine lives, predictions are answered; a write that cannot
be done now is a 503 with `Retry-After` within five seconds; ten seconds after the fault everything works.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from pipeline.engine.backends.local import stop_all_jobs
from pipeline.engine.jobs.training import VANISHED
from tests.fakes.clock import wait_for
from tests.integration import durable_checks as checks
from tests.integration.durable_client import LINES, PROGRAM, Answer, DurableClient, send
from tests.integration.engine_process import EngineProcess
from tests.packages import wheel

SOAK = bool(os.environ.get("GRAFT_SOAK"))
ROUNDS = 5 if SOAK else 1
HOLD_SECONDS = 30.0 if SOAK else 3.0
CLIENTS = 4
PROMISED_SECONDS = 5.0  # for an answer to a write, also a refusal
RECOVERY_SECONDS = 10.0
SAMPLE = ("engine killed", "database locked", "disk full", "bucket read-only", "everything killed")
TINY_MODELS = Path(__file__).with_name("tiny_models.py")
WHEEL = "gs://graft/packages/soak-1-py3-none-any.whl"
STEADY = "models/steady"
DISK_BYTES = 200_000_000
CLOCK = """
import os, time
_clock, _file = time.time, os.path.join(os.path.dirname(__file__), "ahead")
time.time = lambda: _clock() + (3600 if os.path.exists(_file) else 0)
"""


@dataclass(kw_only=True)
class Rig:
    """An engine, the load on it, and when it was down."""

    engine: EngineProcess
    folder: Path
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    down: list[tuple[float, float]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.engine.home

    @property
    def bucket(self) -> Path:
        return self.home / "buckets" / "graft"

    @contextmanager
    def downtime(self) -> Iterator[None]:
        """The engine is started again in this block: until then nothing is promised."""
        began = time.monotonic()
        yield
        self.engine.start()
        self.down.append((began, time.monotonic()))

    def was_down(self, answer: Answer) -> bool:
        return any(began < answer.ended and answer.began < ended for began, ended in self.down)

    def kill(self, word: str) -> int:
        """Kill the processes of this home that have a word in their command line; return how many."""
        pids = [int(line.split()[0]) for line in checks.processes_of(self.home) if word in line]
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        return len(pids)


def hold() -> None:
    time.sleep(HOLD_SECONDS)


def kill_engine(rig: Rig) -> None:
    with rig.downtime():
        rig.engine.end(signal.SIGKILL)


def kill_workers(rig: Rig) -> None:
    assert rig.kill("pipeline.engine.serving") > 0


def kill_jobs(rig: Rig) -> None:
    wait_for(lambda: rig.kill("soak.task"), seconds=60)


def lock_database(rig: Rig) -> None:
    database = sqlite3.connect(rig.home / "engine" / "engine.db", isolation_level=None, timeout=20)
    with closing(database):
        database.execute("BEGIN IMMEDIATE")
        hold()
        database.execute("ROLLBACK")


def fill_disk(rig: Rig) -> None:
    path = rig.home / "fill"
    try:
        with path.open("wb", buffering=0) as file:
            for size in (1_000_000, 4096):
                with pytest.raises(OSError, match="No space left"):
                    write_for_ever(file, size)
        hold()
    finally:
        path.unlink()


def write_for_ever(file: IO[bytes], size: int) -> None:
    while True:
        file.write(b"x" * size)


def make_bucket_read_only(rig: Rig) -> None:
    def remount(mode: str) -> bool:
        command = ["mount", "-o", f"remount,bind,{mode}", str(rig.bucket)]
        return subprocess.run(command, capture_output=True).returncode == 0

    wait_for(lambda: remount("ro"))  # refused while a file is open for writing
    try:
        hold()
    finally:
        assert remount("rw")


def move_clock(rig: Rig) -> None:
    (rig.folder / "ahead").touch()
    try:
        hold()
    finally:
        (rig.folder / "ahead").unlink()


def kill_all(rig: Rig) -> None:
    with rig.downtime():
        for _ in range(3):  # the first ones may just have started others
            rig.kill("")
        rig.engine.end(signal.SIGKILL)


def down_and_up(rig: Rig) -> None:
    with rig.downtime():
        rig.engine.end(signal.SIGTERM)
        stop_all_jobs(rig.home, grace_seconds=1)


FAULTS: dict[str, Callable[[Rig], None]] = {
    "engine killed": kill_engine,
    "worker killed": kill_workers,
    "job killed": kill_jobs,
    "database locked": lock_database,
    "disk full": fill_disk,
    "bucket read-only": make_bucket_read_only,
    "clock +1 h": move_clock,
    "everything killed": kill_all,
    "down and up": down_and_up,
}
ENDS: dict[str, tuple[str, ...]] = {  # what the message of a job says that a fault may end
    "job killed": ("status of 137",) if ROUNDS > 3 else (),  # the same program in each round
    # The last is what Python's tempfile says when it cannot write to any of its directories.
    "disk full": ("No space left", "disk is full", "disk of the engine", "No usable temporary directory"),
    "bucket read-only": ("Read-only file system", "read-only"),
    "everything killed": (VANISHED,),
    "down and up": ("status of 143", "status of 137"),
}
STARTS = {"job killed": 3}  # how often the program of a job may start: the supervisor repeats it


@contextmanager
def file_system(folder: Path) -> Iterator[None]:
    """A file system of its own in a folder; skips the test where none may be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a full disk and a read-only one need the right to mount a file system")
    try:
        yield
    finally:
        wait_for(lambda: subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    command = [sys.executable, str(TINY_MODELS), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def start(tmp_path: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Rig]]:
    """Start an engine for a fault, with a model that stays as it is."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    home = tmp_path / "home"
    mounts: dict[str, AbstractContextManager[None]] = {
        "disk full": file_system(home),
        "bucket read-only": file_system(home / "buckets" / "graft"),
    }
    with ExitStack() as stack:

        def start(fault: str) -> Rig:
            if fault in mounts:
                stack.enter_context(mounts[fault])
            home.mkdir(exist_ok=True)
            engine = EngineProcess(
                home, training_slots=2, cancel_grace_seconds=1, job_creations_per_minute=10_000
            )
            stack.callback(engine.close)
            shutil.copytree(exports, home / "buckets" / "graft" / "exports", dirs_exist_ok=True)
            engine.storage.write_bytes(
                WHEEL, wheel("soak", {"soak/__init__.py": "", "soak/task.py": PROGRAM})
            )
            line = json.dumps(DurableClient.request()["instances"][0])
            engine.storage.write_bytes("gs://graft/lines.jsonl", f"{line}\n".encode() * LINES)
            (home / "buckets" / "graft" / "soak").mkdir()
            engine.start()
            engine.client().models().create(parent="projects/local", body={"name": "steady"}).execute()
            engine.deploy("steady", "v1", "gs://graft/exports/odd")
            return Rig(engine=engine, folder=tmp_path)

        yield start


class LoadClient(DurableClient):
    """Does what the durable client does; a version that a fault ended is deleted if the reason is named."""

    def __init__(self, rig: Rig, number: int, reasons: tuple[str, ...]) -> None:
        runs = rig.bucket / "soak"
        super().__init__(rig.engine.port, number, runs, WHEEL, "gs://graft/exports")
        self.reasons = reasons

    def deploy(self) -> None:
        name = self.deploying
        super().deploy()
        if (
            name
            and self.deploying is None
            and self.broken
            and any(r in self.broken[-1] for r in self.reasons)
        ):
            self.broken.pop()
            del self.versions[name]
            self.deleted.add(name)
            self.insist("DELETE", f"models/{self.model}/versions/{name}", 200, 404)


class Predictor(threading.Thread):
    """Predicts with the model that stays, without a pause."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(name="predictor")
        self.rig, self.done = rig, threading.Event()
        self.answers: list[Answer] = []

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.answers.append(predict(self.rig))

    def problems(self) -> list[str]:
        return [
            str(answer) for answer in self.answers if not is_right(answer) and not self.rig.was_down(answer)
        ]


def predict(rig: Rig) -> Answer:
    return send(rig.engine.port, "POST", f"{STEADY}:predict", DurableClient.request())


def is_right(answer: Answer) -> bool:
    return answer.code == 200 and DurableClient.favourite_of(json.loads(answer.text)) == 0


def problem_of(answer: Answer) -> str | None:
    """Return what is wrong with an answer to a client, whatever happened; None if nothing is."""
    if answer.code is None or answer.path.endswith(":predict"):
        return None
    if answer.code == 503 and not answer.retry_after:
        return f"no Retry-After: {answer}"
    if answer.code >= 500 and answer.code != 503:
        return f"an error of the server's own: {answer}"
    if answer.method != "GET" and answer.seconds > PROMISED_SECONDS:
        return f"too late: {answer}"
    return None


def check_recovery(rig: Rig, number: int) -> float:
    """Wait until the engine writes and predicts; return after how many seconds it did."""
    began = time.monotonic()
    model = {"name": f"probe{number}"}
    wait_for(
        lambda: (
            send(rig.engine.port, "POST", "models", model).code in (200, 409)
            and is_right(predict(rig))
            and send(rig.engine.port, "GET", "jobs").code == 200
        ),
        seconds=RECOVERY_SECONDS,
    )
    return time.monotonic() - began


@contextmanager
def load(rig: Rig, reasons: tuple[str, ...]) -> Iterator[tuple[list[LoadClient], Predictor]]:
    clients = [LoadClient(rig, number, reasons) for number in range(CLIENTS)]
    predictor = Predictor(rig)
    threads: list[Any] = [*clients, predictor]
    for thread in threads:
        thread.start()
    try:
        yield clients, predictor
    finally:
        for thread in threads:
            thread.done.set()
        for thread in threads:
            thread.join(120)


def cancel_long_jobs(clients: list[LoadClient]) -> None:
    for client in clients:
        assert not client.is_alive()
        for job_id in client.long_jobs() - client.ended.keys():
            client.cancelled.add(job_id)
            client.insist("POST", f"jobs/{job_id}:cancel", 200, 400)


def finish_deployments(clients: list[LoadClient]) -> None:
    """Let each client see how the version ended that it was waiting for when the load ended."""
    for client in clients:
        if client.deploying is not None:
            client.deploy()


@pytest.mark.timeout(1800 if SOAK else 420)
@pytest.mark.parametrize("fault", FAULTS if SOAK else SAMPLE)
def test_faults_under_load(
    start: Callable[[str], Rig], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, reasons, recoveries = start(fault), ENDS.get(fault, ()), []
    with load(rig, reasons) as (clients, predictor):
        wait_for(lambda: all(client.default for client in clients), seconds=90)
        for number in range(ROUNDS):
            time.sleep(rig.chance.uniform(0.5, 4))
            FAULTS[fault](rig)
            recoveries.append(check_recovery(rig, number))
        time.sleep(1)
    cancel_long_jobs(clients)
    wait_for(lambda: checks.is_settled(clients), seconds=180)
    finish_deployments(clients)
    wait_for(lambda: checks.is_settled(clients), seconds=180)
    assert [line for client in clients for line in client.broken] == []
    assert predictor.problems() == []
    found = [problem_of(each) for client in clients for each in client.exchanges]
    assert [each for each in found if each] == []
    states = checks.check_jobs(rig.engine, clients, ended_by=reasons, max_starts=STARTS.get(fault, 1))
    versions = checks.check_versions(rig.engine, clients, others=1)
    operations = checks.check_operations(clients[0], ended_by=reasons)
    assert rig.engine.end(signal.SIGTERM) == 0
    wait_for(lambda: not checks.processes_of(rig.home), seconds=30)
    checks.check_database(rig.engine)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{fault}, {ROUNDS} rounds: all right after {max(recoveries):.1f} s at most; jobs {states}, "
            f"{versions} versions, {operations} operations, {len(predictor.answers)} predictions\n"
        )
