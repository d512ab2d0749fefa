"""The processes of a job and the memory they use, for its supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
MAX_MARK = 800_000  # below the limit that Linux sets, 819,200 bytes
OOM_SCORE = "500"  # of 1000: where memory runs out, a job goes before the engine


def process_start(pid: int) -> str | None:
    """Return a token that tells a process from a later one with its pid; None if it is dead or a zombie.

    On Linux it is in ticks since boot: psutil's start time is computed from the clock, and moves with it.
    """
    try:
        if not psutil.LINUX:
            return str(psutil.Process(pid).create_time())
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (psutil.NoSuchProcess, OSError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, so that nothing gets away by a second fork."""
    with contextlib.suppress(AttributeError, OSError):  # Linux only; elsewhere the environment marks them
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def job_mark(directory: Path) -> int:
    """Return the limit of POSIX message queues that the processes of a job have, and no others."""
    return 1 + zlib.crc32(os.fsencode(directory)) % MAX_MARK


def mark_this_process(directory: Path) -> None:
    """Mark this process and all that it starts.

    A hard limit is inherited, and only a privileged process can raise one. So the mark stays after a second
    fork, in a session of its own, with another environment, and when the supervisor is gone.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not Linux, or the limit is lower already
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (job_mark(directory),) * 2)


def is_marked(process: psutil.Process, directory: Path) -> bool:
    """Return True if a process has the mark of a job."""
    if not psutil.LINUX:
        return False
    return bool(process.rlimit(psutil.RLIMIT_MSGQUEUE)[1] == job_mark(directory))


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
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children if _is_alive(child)]


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


def resident_bytes(pids: Iterable[int]) -> int:
    """Return the memory that processes have in use; pages that they share count for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total


def private_bytes(pids: Iterable[int]) -> int:
    """Return the memory that only the end of processes frees: no files, and what they share counts once.

    psutil has the whole proportional share only, with the files that a job maps.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            sizes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
            own = sizes["Pss_Anon"] + sizes["Pss_Shmem"] if "Pss_Anon" in sizes else sizes.get("Pss", 0)
            total += own * 1024
    return total


def oom_kills(path: Path = Path("/proc/vmstat")) -> int:
    """Return how many processes of this machine the kernel has ended for lack of memory; 0 if unknown."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE):
            return int(match[1])
    return 0


def end_descendants(pid: int, grace_seconds: float, forbid_forks: Callable[[], None] | None = None) -> None:
    """Send SIGTERM to all that a process started, SIGKILL after the grace, and wait until it is gone.

    Args:
        pid: Of the process.
        grace_seconds: How long they may tidy up.
        forbid_forks: Called when the grace has passed.
    """
    deadline = time.monotonic() + grace_seconds
    signal_all(descendants(pid), signal.SIGTERM)
    while alive := descendants(pid):
        if time.monotonic() >= deadline:
            if forbid_forks:
                forbid_forks()
            signal_all(alive, signal.SIGKILL)
        time.sleep(0.05)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, those that are gone left out."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
