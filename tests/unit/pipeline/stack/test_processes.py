import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.errors import StackError
from pipeline.stack.processes import ProcessRecord, log_tail, session_members, start_process, stop_processes

SLEEP = "import time; time.sleep(60)"
IGNORE_TERM = (
    f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
)
SPAWN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
PARENT = f"{SPAWN}; print('ready', flush=True); {SLEEP}"

Start = Callable[..., ProcessRecord]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(process: psutil.Process) -> bool:
    """An ended process whose new parent has not collected it yet is gone too."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start_python(code: str, name: str = "part") -> ProcessRecord:
        record = start_process(
            name,
            [sys.executable, "-c", code],
            environ=dict(os.environ),
            directory=tmp_path,
            log=tmp_path / "logs" / f"{name}.log",
            fingerprint="f",
        )
        started.append(record)
        if "ready" in code:
            wait_for(lambda: "ready" in log_tail(tmp_path / "logs" / f"{name}.log"))
        return record

    yield start_python
    stop_processes(started, grace_seconds=0)
    for record in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(record.pid, 0)


class TestStarting:
    def test_process_leads_a_session_of_its_own_and_logs_to_its_file(
        self, start: Start, tmp_path: Path
    ) -> None:
        record = start("print('ready', flush=True); " + SLEEP)
        assert os.getsid(record.pid) == record.pid
        assert record.is_alive
        assert log_tail(tmp_path / "logs" / "part.log") == "ready"

    def test_files_a_process_makes_are_private(self, start: Start, tmp_path: Path) -> None:
        start("open('made', 'w').close(); print('ready', flush=True); " + SLEEP)
        assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600

    def test_unknown_command_is_a_stack_error(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match="engine could not be started"):
            start_process(
                "engine",
                [str(tmp_path / "nothing")],
                environ={},
                directory=tmp_path,
                log=tmp_path / "x.log",
                fingerprint="",
            )


class TestStopping:
    def test_children_end_with_their_leader(self, start: Start) -> None:
        record = start(PARENT)
        members = session_members(record)
        assert len(members) == 2
        assert stop_processes([record], grace_seconds=5) == 2
        assert all(is_gone(member) for member in members)

    def test_orphans_of_a_killed_leader_are_found_and_ended(self, start: Start) -> None:
        record = start(PARENT)
        os.kill(record.pid, signal.SIGKILL)
        wait_for(lambda: not record.is_alive)
        orphans = session_members(record)
        assert [process.pid for process in orphans] != [record.pid]
        assert len(orphans) == 1
        assert stop_processes([record], grace_seconds=30) == 1
        assert is_gone(orphans[0])

    def test_process_that_ignores_term_is_killed(self, start: Start) -> None:
        record = start(IGNORE_TERM)
        assert stop_processes([record], grace_seconds=0.2) == 1
        assert not record.is_alive

    def test_stopping_twice_is_harmless(self, start: Start) -> None:
        record = start(SLEEP)
        assert stop_processes([record], grace_seconds=5) == 1
        assert stop_processes([record], grace_seconds=5) == 0


class TestReusedPid:
    def test_stranger_with_a_recorded_pid_is_not_taken_for_ours(self, start: Start) -> None:
        stranger = start(SLEEP)
        record = replace(stranger, started=stranger.started - 100)
        assert not record.is_alive
        assert session_members(record) == []

    def test_stranger_with_a_recorded_pid_is_not_signalled(self, start: Start) -> None:
        stranger = start(SLEEP)
        assert stop_processes([replace(stranger, started=stranger.started - 100)], grace_seconds=0) == 0
        assert psutil.Process(stranger.pid).is_running()

    def test_program_of_another_python_in_a_leaderless_session_is_left_alone(self, start: Start) -> None:
        code = "import subprocess; subprocess.Popen(['sleep', '60']); print('ready', flush=True); " + SLEEP
        record = start(code)
        (child,) = psutil.Process(record.pid).children()
        wait_for(lambda: child.name() == "sleep")
        os.kill(record.pid, signal.SIGKILL)
        wait_for(lambda: not record.is_alive)
        assert stop_processes([record], grace_seconds=0) == 0
        assert child.is_running()
        child.kill()


def test_ended_process_that_nobody_waited_for_counts_as_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        started = psutil.Process(process.pid).create_time()
        record = ProcessRecord(name="x", pid=process.pid, started=started, fingerprint="")
        wait_for(lambda: not record.is_alive)


def test_log_tail_keeps_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert log_tail(log) == "(the log is empty)"
    log.write_bytes(b"\xff broken\n" + b"\n".join(b"line %d" % number for number in range(100)))
    assert log_tail(log).splitlines() == [f"line {number}" for number in range(75, 100)]
