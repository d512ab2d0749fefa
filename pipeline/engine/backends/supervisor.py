"""Runs one job in a session of its own, and writes down how it ended. Standard library only.

`python -I -S supervisor.py JOB_DIRECTORY` returns at once; a daemon stays, which
  1. claims the job by creating `supervisor.json` (its pid and start time), so a job never runs twice;
  2. runs the `prepare` commands of `job.json`, writes `running.json`, runs the `command`;
  3. stops it when it passes its time, and writes `exit.json`.
All files appear whole. SIGTERM to the session ends the job; the daemon itself stays to write the last file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


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


def write_json(path: Path, value: dict[str, Any], *, replace: bool = True) -> bool:
    """Write a file that appears whole; without `replace`, say whether it was ours to create."""
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

    def _on_term(self, _signal: int, _frame: Any) -> None:
        self.stopping = True
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()

    def _run(self, command: list[str], timeout: float | None) -> int:
        self.child = subprocess.Popen(command, cwd=self.job["cwd"], env=self.job["env"])
        if self.stopping:
            self.child.terminate()
        try:
            code = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.timed_out = True
            code = self._end_child()
        return code if code >= 0 else 128 - code

    def _end_child(self) -> int:
        if self.child is None:
            raise RuntimeError("no child runs")
        self.child.terminate()
        try:
            return self.child.wait(self.job["grace_seconds"])
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()

    def _run_all(self) -> tuple[str, int]:
        for command in self.job["prepare"]:
            code = self._run(command, None)
            if code or self.stopping:
                return "prepare", code or 128 + signal.SIGTERM
        write_json(self.directory / "running.json", {"started": time.time()})
        return "run", self._run(self.job["command"], self.job["max_running_seconds"])

    def run(self) -> None:
        """Run the job and write `exit.json`, whatever happens."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        phase, code, problem = "prepare", 1, ""
        try:
            phase, code = self._run_all()
        except OSError as error:
            problem = str(error)
            sys.stderr.write(f"The job could not be started: {error}\n")
            sys.stderr.flush()
        ending = {"phase": phase, "code": code, "timed_out": self.timed_out, "problem": problem}
        write_json(self.directory / "exit.json", {**ending, "ended": time.time()})


def _redirect(log: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, os.open(log, flags, 0o600))):
        os.dup2(source, target)
        os.close(source)
    os.dup2(1, 2)


def main(directory: Path) -> int:
    """Leave a daemon behind; return 0 when it has the job, 3 when another one has."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        return 0 if os.read(reader, 1) == b"1" else 3
    os.close(reader)
    os.setsid()
    claim = {"pid": os.getpid(), "start": process_start(os.getpid())}
    if not write_json(directory / "supervisor.json", claim, replace=False):
        os._exit(3)
    _redirect(directory / "log.txt")
    os.write(writer, b"1")
    os.close(writer)
    Supervisor(directory).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
