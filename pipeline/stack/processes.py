"""Child processes of the stack: started in sessions of their own, and never mistaken for a stranger's.

A process is known by its pid *and* its start time. The session it leads is found again after the leader is
dead, so `kill -9` of a scheduler leaves no orphan behind. A pid that has been used again is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import StackError
from pipeline.types import JsonDict

STARTED_TOLERANCE_SECONDS = 0.05
LOG_TAIL_LINES = 25
COMPONENT = re.compile(
    r"-m pipeline\.engine |airflow (api[-_]server|scheduler|dag-processor|triggerer)\b"
    r"|(?:celeryd: |--celery-hostname )(worker-\d+)@"
    r"|-m pipeline\.stack\.(gateway|link|front) "
)
REPLICA = re.compile(r"--replica (\d+)")
PORT = re.compile(r"port[ :](\d+)")
SERVER_PORT = re.compile(r"(?:-p |127\.0\.0\.1:)(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who a process runs as, where that is not who starts it."""

    name: str
    user: int
    group: int

    def options(self) -> dict[str, Any]:
        """Return what `subprocess` wants for it."""
        return {"user": self.user, "group": self.group, "extra_groups": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """What is kept of a started process.

    Args:
        name: The component's name.
        pid: Its process id, which is also the id of its session.
        started: Its start time as the operating system tells it, seconds since the epoch.
        fingerprint: Digest of its command and environment; another one asks for a restart.
    """

    name: str
    pid: int
    started: float
    fingerprint: str

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return asdict(self)

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return _leader(self) is not None


def _leader(record: ProcessRecord) -> psutil.Process | None:
    try:
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.started) > STARTED_TOLERANCE_SECONDS:
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def start_process(
    name: str,
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    directory: Path,
    log: Path,
    fingerprint: str,
    account: Account | None = None,
) -> ProcessRecord:
    """Start a process in its own session, its output appended to a log file.

    Raises:
        StackError: if the command cannot be run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environ),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
                **(account.options() if account else {}),
            )
        except OSError as error:
            raise StackError(f"{name} could not be started: {error}", component=name) from error
    # The parent does not wait for it: the component outlives `graft up`.
    process.returncode = 0
    started = psutil.Process(process.pid).create_time()
    return ProcessRecord(name=name, pid=process.pid, started=started, fingerprint=fingerprint)


def find_components(home: Path) -> list[tuple[ProcessRecord, int]]:
    """Return the components that run on a home, found without their records, each with its port or 0.

    A component leads its session, runs our Python in the home as its working directory, and has its name on
    its command line or in its title.
    """
    python, components = os.path.realpath(sys.executable), []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != process.pid or process.exe() != python:
                continue
            text = " ".join(process.cmdline())
            match = COMPONENT.search(text)
            if match is None or process.cwd() != os.path.realpath(home):
                continue
            record = ProcessRecord(
                name=_component_name(match, text),
                pid=process.pid,
                started=process.create_time(),
                fingerprint="",
            )
        except (ProcessLookupError, psutil.Error, PermissionError):
            continue
        port = PORT.search(text)
        components.append((record, int(port[1]) if port else 0))
    return components


def _component_name(match: re.Match[str], text: str) -> str:
    """Return the name of a component; the second engine has the replica 1."""
    if match[1] or match[2]:
        return f"airflow-{(match[1] or match[2]).replace('_', '-')}"
    if match[3]:
        return match[3]
    replica = REPLICA.search(text)
    return f"engine-{int(replica[1]) + 1}" if replica else "engine"


def find_servers(directories: Mapping[str, Path]) -> list[tuple[ProcessRecord, int]]:
    """Return the servers that run in some directories, found without their records, each with its port.

    Args:
        directories: Where each keeps its data, which is its working directory, by the name of its component.
    """
    homes, servers = {os.path.realpath(path): name for name, path in directories.items()}, []
    for process in psutil.process_iter():
        try:
            name = homes.get(process.cwd())
            parent = process.parent()
            # A server's own children work where it does, some of them in sessions of their own.
            if name is None or (parent and parent.cwd() == process.cwd()):
                continue
            record = ProcessRecord(name=name, pid=process.pid, started=process.create_time(), fingerprint="")
            match = SERVER_PORT.search(" ".join(process.cmdline()))
        except (psutil.Error, PermissionError):
            continue
        servers.append((record, int(match[1]) if match else 0))
    return servers


def session_members(record: ProcessRecord) -> list[psutil.Process]:
    """Return every living process of a component: its leader and all in the leader's session.

    With the leader gone, members are those that run our Python and are not older than it; the operating
    system gives no new process an id that is still in use as a session.
    """
    leader = _leader(record)
    if leader is None and _is_reused(record):
        return []
    python = os.path.realpath(sys.executable)
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) != record.pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            is_ours = process.create_time() >= record.started - STARTED_TOLERANCE_SECONDS
            if is_ours and (leader is not None or process.exe() == python):
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, psutil.AccessDenied, PermissionError):
            continue
    return members


def _is_reused(record: ProcessRecord) -> bool:
    try:
        created = psutil.Process(record.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return abs(created - record.started) > STARTED_TOLERANCE_SECONDS


def stop_processes(
    records: Iterable[ProcessRecord],
    *,
    grace_seconds: float,
    first: signal.Signals = signal.SIGTERM,
) -> int:
    """End every process of some components: TERM, or another signal, wait, then KILL what is left.

    Returns:
        How many processes were alive.
    """
    records = list(records)
    # Whoever has lost its leader has nobody left to end it in good order: no TERM, no waiting.
    led = [record for record in records if record.is_alive]
    members = [process for record in records for process in session_members(record)]
    ending = [process for record in led for process in session_members(record)]
    _signal_all(ending, first)
    _wait_gone(ending, led, seconds=grace_seconds)
    # A component may have started more processes while it was ending.
    for _ in range(5):
        left = [process for record in records for process in session_members(record)]
        _reap(records)
        if not left:
            return len(members)
        _signal_all(left, signal.SIGKILL)
        _wait_gone(left, records, seconds=5)
    pids = " ".join(str(process.pid) for process in left)
    raise StackError(f"These processes did not end after SIGKILL: {pids}. Look at them with `ps -fp {pids}`.")


def _signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # psutil checks the start time again, so a reused pid is left alone
        except psutil.NoSuchProcess:
            continue


def _wait_gone(processes: list[psutil.Process], records: list[ProcessRecord], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    left = processes
    while left and time.monotonic() < deadline:
        _reap(records)
        left = [process for process in left if process.is_running() and not _is_zombie(process)]
        if left:
            time.sleep(0.05)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _reap(records: Iterable[ProcessRecord]) -> None:
    """Collect ended components that this very process started, so that they leave no zombie."""
    for record in records:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(record.pid, os.WNOHANG)


def log_tail(log: Path) -> str:
    """Return the last lines of a log file, or a note that there are none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(the log is empty)"
