from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.stack import keeper
from pipeline.stack.processes import ProcessRecord, log_tail, session_members, start_process, stop_processes
from tests.fakes.clock import wait_for

# Writes its process id to a new file of its directory, then lives until it is ended.
COMPONENT = (
    "import os, pathlib, subprocess, sys, time\n"
    "pathlib.Path(f'{time.monotonic_ns()}.pid').write_text(str(os.getpid()))\n"
    "if 'with-child' in sys.argv: subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "if 'fails' in sys.argv: sys.exit(3)\n"
    "time.sleep(60)\n"
)


# The keeper as a program, but with shorter times.
KEEP = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("keeper", {keeper.__file__!r})
keeper = importlib.util.module_from_spec(spec)
spec.loader.exec_module(keeper)
keep = keeper.Keeper
keeper.Keeper = lambda command: keep(command, start_seconds=0, first_pause=0.1)
sys.exit(keeper.main(sys.argv[1:]))
"""


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ProcessRecord]:
    """A component that counts as started at once, in a session with its keeper."""
    record = start_process(
        "part",
        [sys.executable, "-c", KEEP, sys.executable, "-c", COMPONENT, "with-child"],
        environ=dict(os.environ),
        directory=tmp_path,
        log=tmp_path / "log",
        fingerprint="",
    )
    yield record
    stop_processes([record], grace_seconds=0)


def pids(directory: Path) -> list[int]:
    """Return the ids of the processes that were started, in their order."""
    texts = [path.read_text() for path in sorted(directory.glob("*.pid"))]
    return [int(text) for text in texts if text]


def test_a_killed_component_starts_again_and_takes_its_processes_along(
    kept: ProcessRecord, tmp_path: Path
) -> None:
    wait_for(lambda: len(session_members(kept)) == 3, seconds=30)
    before = session_members(kept)
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    wait_for(lambda: len(pids(tmp_path)) == 2 and len(session_members(kept)) == 3, seconds=30)
    after = session_members(kept)
    assert set(before) & set(after) == {psutil.Process(kept.pid)}
    assert "the component ended with the code -9, and starts again in 0.1 s" in log_tail(tmp_path / "log")


def test_term_ends_the_keeper_and_its_component(kept: ProcessRecord, tmp_path: Path) -> None:
    wait_for(lambda: pids(tmp_path), seconds=30)
    os.kill(kept.pid, signal.SIGTERM)
    os.waitpid(kept.pid, 0)
    assert [process.pid for process in session_members(kept)] == []
    assert len(pids(tmp_path)) == 1


def test_a_component_that_does_not_start_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keeper, "kill_session", lambda: None)  # this session has the tests
    assert keeper.Keeper([sys.executable, "-c", COMPONENT, "fails"]).run() == 3
    assert len(pids(tmp_path)) == 1


def test_pauses_grow_while_a_component_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        pauses.append(timeout or 0.0)
        return len(pauses) == 8

    monkeypatch.setattr(threading.Event, "wait", wait)
    monkeypatch.setattr(keeper.Keeper, "_run_once", lambda self: 1)
    clock = iter([0, 40, *[50] * 20])
    monkeypatch.setattr(keeper.time, "monotonic", lambda: next(clock))
    assert keeper.Keeper(["component"]).run() == 1
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_it_is_a_program_of_few_modules() -> None:
    code = f"import runpy, sys; runpy.run_path({keeper.__file__!r}); print('pipeline' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
