"""Runs one job in a session of its own, and records how it ended.

`python -P -m pipeline.engine.backends.supervisor JOB_DIRECTORY` returns at once; a daemon remains, which
  1. claims the job by creating `supervisor.json` (its pid and start time), so a job never runs twice;
  2. runs the `prepare` command of `job.json`, if there is one, writes `running.json`, runs the `command`,
     and runs it again when a signal ended it that was neither ours nor the kernel's for lack of memory;
  3. stops it when it passes its time or its memory;
  4. ends what the command left running, and writes `exit.json`.
All files are written atomically. SIGTERM to the session ends the job; the daemon stays to write `exit.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import FrameType

from pipeline.engine.backends.control_group import ControlGroup
from pipeline.engine.backends.gcs.on_demand import OnDemandServer
from pipeline.engine.backends.processes import (
    adopt_orphans,
    descendants,
    end_descendants,
    limit_this_process,
    mark_this_process,
    oom_kills,
    private_bytes,
    process_start,
    resident_bytes,
)
from pipeline.types import JsonObject, JsonValue

WATCH_SECONDS = 0.5  # between two checks of time and memory
RESTART_SECONDS = 1.0
RETRY_SECONDS = 1.0  # between attempts to write what the engine must know
FULL_BYTES = 1_000_000  # less is free on a disk that is full
DISK_FULL = (
    "The job failed while the disk of the engine was full, or had no inodes left. Free some space and submit "
    "it again."
)
OUT_OF_MEMORY = (
    "The kernel ended the job because the machine had no memory left. Work on less at a time, lower "
    "GRAFT_ENGINE_TRAINING_SLOTS, or set GRAFT_ENGINE_JOB_MEMORY_BYTES below what is free."
)
TAKEN = 3  # the exit status when another daemon has the job
NOT_WRITTEN = 64  # with the number of the error added, when the daemon cannot write its files
SIGNALLED = 128  # as a shell says it: the exit status of a signal is its number more


def is_signal(code: int) -> bool:
    """Return True if an exit status says that a signal ended the program; 255 is `sys.exit(-1)`."""
    return SIGNALLED < code < SIGNALLED + signal.NSIG


def write_json(path: Path, value: JsonObject, *, replace: bool = True) -> bool:
    """Write a file atomically; return True unless it exists and must not be replaced."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        partial.replace(path)
        return True
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def keep_json(path: Path, value: JsonObject) -> None:
    """Write a file atomically, and try until it can be: what it says must not be lost to a full disk."""
    while True:
        try:
            write_json(path, value)
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(f"{path.name} cannot be written now: {error}\n")
                sys.stderr.flush()
            time.sleep(RETRY_SECONDS)
        else:
            return


def is_disk_full(directory: Path) -> bool:
    """Return True if a disk has no room, or no inodes, for another file."""
    facts = os.statvfs(directory)
    return facts.f_bavail * facts.f_frsize < FULL_BYTES or (facts.f_files > 0 and facts.f_favail == 0)


def cut_log(path: Path, limit: int, num_cut: int) -> int:
    """Cut the middle of a log that is too long; return how many more bytes are gone.

    The programs go on writing at its end, which is where the file was opened to append. A quarter of the
    limit remains at each side, so that the next cut is far.

    Args:
        path: The log.
        limit: Its largest size in bytes.
        num_cut: How many bytes were cut before.
    """
    with path.open("r+b") as file:
        size, side = os.fstat(file.fileno()).st_size, limit // 4
        if size <= limit:
            return 0
        file.seek(size - side)
        tail = file.read()
        removed = size - 2 * side
        note = f"\n[{num_cut + removed} bytes of this log were cut: it has more than {limit}.]\n"
        file.truncate(side)
        file.seek(side)
        file.write(note.encode() + tail)
    return removed


class Supervisor:
    """The daemon of one job.

    Args:
        directory: The job's directory with `job.json` in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.job = json.loads((directory / "job.json").read_text())
        self.child: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.timed_out = False
        self.problem = ""
        self.num_cut = 0
        self.group: ControlGroup | None = None
        self.server: OnDemandServer | None = None
        # The keys of its buckets: for the program alone, not for what is installed before, and in no file.
        names = [name for name in os.environ if name.startswith("AWS_")]
        self.secrets = {name: os.environ.pop(name) for name in names}

    @property
    def _is_ended_by_us(self) -> bool:
        return self.stopping or self.timed_out or bool(self.problem)

    def _on_term(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()

    def _run(self, command: list[str], env: dict[str, str], deadline: float) -> int:
        self.child = subprocess.Popen(
            command, cwd=self.job["cwd"], env=env, preexec_fn=partial(mark_this_process, self.directory)
        )
        if self.stopping:
            self.child.terminate()
        while not self._has_ended(self.child):
            self._check_owner()
            self._check_time(deadline)
            self._check_size()
            self._check_log()
        self._check_log()
        code = self.child.wait()
        return code if code >= 0 else SIGNALLED - code

    def _has_ended(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait a little for the child to end, or for its first request to its buckets."""
        waiting = self.server.waiting if self.server else []
        try:
            watched = os.pidfd_open(child.pid)
        except (AttributeError, OSError):  # not Linux
            ready, _, _ = select.select(waiting, [], [], WATCH_SECONDS / 5)
        else:
            try:
                ready, _, _ = select.select([watched, *waiting], [], [], WATCH_SECONDS)
            finally:
                os.close(watched)
        if self.server and not set(waiting).isdisjoint(ready):
            self.server.start()
        return child.poll() is not None

    def _check_owner(self) -> None:
        """End the job if it has an owner that is gone: on a node of Ray nobody else would."""
        owner = self.job.get("owner")
        if owner and not self.stopping and process_start(owner["pid"]) != owner["start"]:
            self.stopping = True
            self._end_all(self.job["grace_seconds"])

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline and not self.timed_out:
            self.timed_out = True
            self._end_all(self.job["grace_seconds"])

    def _check_log(self) -> None:
        with contextlib.suppress(OSError):  # it is tried again half a second later
            self._cut_log()

    def _cut_log(self) -> None:
        self.num_cut += cut_log(self.directory / "log.txt", self.job["log_bytes"], self.num_cut)

    def _check_size(self) -> None:
        limit, pids = self.job["memory_bytes"], descendants(os.getpid())
        if len(pids) > self.job["processes"]:
            self.problem = (
                f"The job had {len(pids)} processes and was ended; its limit is {self.job['processes']}. "
                "Start fewer, or raise GRAFT_ENGINE_JOB_PROCESSES."
            )
            self._end_all(0)
        elif not self.problem:
            self._check_memory(limit, pids)

    def _check_memory(self, limit: int, pids: list[int]) -> None:
        if resident_bytes(pids) <= limit or (used := private_bytes(pids)) <= limit:
            return
        self.problem = (
            f"The job used {used / 1e6:.0f} MB of memory and was ended; its limit is {limit / 1e6:.0f} MB. "
            "Work on less at a time, or raise GRAFT_ENGINE_JOB_MEMORY_BYTES."
        )
        self._end_all(0)  # no grace: it would use still more

    def _end_all(self, grace_seconds: float) -> None:
        end_descendants(os.getpid(), grace_seconds, self.group.forbid_forks if self.group else None)

    def _run_all(self) -> tuple[str, int]:
        code = self._run(self.job["prepare"], dict(os.environ), float("inf")) if self.job["prepare"] else 0
        if code or self.stopping:
            return "prepare", code or SIGNALLED + signal.SIGTERM
        keep_json(self.directory / "running.json", {"started": time.time()})
        deadline = time.monotonic() + self.job["max_running_seconds"]
        code = self._run_command(deadline)
        for restart in range(1, self.job["restarts"] + 1):
            if not is_signal(code) or self._is_ended_by_us:
                break
            self._end_all(self.job["grace_seconds"])
            self._log(f"A signal ended the program (status {code}). Restart {restart}.")
            time.sleep(RESTART_SECONDS)
            if not self.stopping:
                self._enter_group()
                code = self._run_command(deadline)
        return "run", code

    def _run_command(self, deadline: float) -> int:
        before = oom_kills()
        address = {"STORAGE_EMULATOR_HOST": self.server.url} if self.server else {}
        code = self._run(self.job["command"], self.job["env"] | self.secrets | address, deadline)
        if code == SIGNALLED + signal.SIGKILL and not self._is_ended_by_us and oom_kills() > before:
            self.problem = OUT_OF_MEMORY  # it would use as much again
        return code

    def _prepare_buckets(self) -> None:
        for note in self.job["notes"]:
            self._log(note)
        if self.job["bucket_server"]:
            self.server = OnDemandServer(
                command=self.job["bucket_server"],
                environ=self.job["bucket_server_env"],
                mark=partial(mark_this_process, self.directory),
            )

    def _enter_group(self) -> None:
        group = ControlGroup.of(self.directory)
        self.group = group if group and group.enter(self.job["processes"] + 1) else None

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the disk is full; the job goes on without the line
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def _problem_of(self, phase: str) -> str:
        """Return why the supervisor or the installer ended the job; empty if it ended by itself."""
        note = self.directory / "problem.txt"
        if self.problem or phase == "run" or self.stopping:  # stopped, the installer blames its packages
            return self.problem
        try:
            return note.read_text(errors="replace")
        except FileNotFoundError:  # it was killed, or could not write it
            return ""

    def run(self) -> None:
        """Run the job and write `exit.json`, however it ends."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        self._enter_group()
        limit_this_process(cpus=self.job["cpus"], nice=self.job["nice"])
        self._log(f"Sandbox: {self.job['sandbox']}.")
        self._prepare_buckets()
        phase, code = "prepare", 1
        try:
            phase, code = self._run_all()
        except OSError as error:
            self.problem = f"The job could not be started: {error}"
        if code and not self._is_ended_by_us and is_disk_full(self.directory):
            self.problem = DISK_FULL  # its own words may not have found room in the log
        if self.problem:
            phase = "run"  # what the packages are to blame for is in the installer's note
            self._log(self.problem)
        self._end_all(self.job["grace_seconds"])
        if self.group:
            self.group.leave()
        ending: dict[str, JsonValue] = {"phase": phase, "code": code, "timed_out": self.timed_out}
        ending |= {"problem": self._problem_of(phase), "ended": time.time()}
        keep_json(self.directory / "exit.json", ending)


def _redirect(log: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(log, flags, 0o600))):
        os.dup2(source, target)
        os.close(source)
    os.dup2(1, 2)


def main(directory: Path) -> int:
    """Start the daemon; return 0 if it has the job, TAKEN if another has, NOT_WRITTEN or more on an error."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return int(os.read(reader, 3) or TAKEN)
    os.close(reader)
    os.setsid()
    claim = {"pid": os.getpid(), "start": process_start(os.getpid())}
    try:
        _redirect(directory / "log.txt")  # first: what follows the claim must not fail
        if not write_json(directory / "supervisor.json", claim, replace=False):
            os._exit(TAKEN)
    except OSError as error:  # the disk is full, or read-only
        os.write(writer, str(NOT_WRITTEN + (error.errno or 0)).encode())
        os._exit(NOT_WRITTEN)
    os.write(writer, b"0")
    os.close(writer)
    Supervisor(directory).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
