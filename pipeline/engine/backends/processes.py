"""What a job's processes are and what they use, from `/proc`. Standard library only: for the supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
OOM_SCORE = "500"  # of 1000: where memory runs out, a job goes before the engine


def process_start(pid: int) -> str | None:
    """Return what tells this process from a later one of the same pid; None when it is dead or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return None if not text or text.startswith("Z") else text.partition(" ")[2].strip()
    return None if fields[0] in "ZX" else fields[19]


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, so that nothing gets away by a second fork."""
    with contextlib.suppress(AttributeError, OSError):  # Linux only; elsewhere the environment marks them
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_this_process(*, cpus: list[int], nice: int) -> None:
    """Give way to others on the processors, and be the first to go when memory runs out."""
    with contextlib.suppress(OSError):
        os.nice(nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def descendants(pid: int) -> list[int]:
    """Return the living processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for child, parent in _living():
        children.setdefault(parent, []).append(child)
    found, todo = [], [pid]
    while todo:
        next_ones = children.get(todo.pop(), [])
        found += next_ones
        todo += next_ones
    return found


def _living() -> Iterator[tuple[int, int]]:
    """Yield each process that is no zombie, and its parent."""
    if not Path("/proc/self/stat").exists():
        command = ["/bin/ps", "-axo", "pid=,ppid=,stat="]
        for line in subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines():
            child, parent, state = line.split()[:3]
            if state[0] not in "ZX":
                yield int(child), int(parent)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                yield int(path.parent.name), int(fields[1])


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes have in use; pages that they share count for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE")


def private_bytes(pids: Iterable[int]) -> int:
    """Return the memory that only the end of processes gives back: no files; what they share counts once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
            own = sizes["Pss_Anon"] + sizes["Pss_Shmem"] if "Pss_Anon" in sizes else sizes.get("Pss", 0)
            total += own * 1024
    return total


def end_descendants(pid: int, grace_seconds: float) -> None:
    """Send SIGTERM to all that a process started, SIGKILL after the grace, and wait until it is gone."""
    deadline = time.monotonic() + grace_seconds
    signal_all(descendants(pid), signal.SIGTERM)
    while alive := descendants(pid):
        if time.monotonic() >= deadline:
            signal_all(alive, signal.SIGKILL)
        time.sleep(0.05)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, those that are gone left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
