"""A control group that limits how many processes and threads a job has, where this process may make one."""

from __future__ import annotations

import contextlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMIT, MEMBERS = "pids.max", "cgroup.procs"


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The control group of one job.

    Args:
        path: Its directory.
    """

    path: Path

    @classmethod
    def of(cls, job: Path) -> ControlGroup | None:
        """Return the group of a job, whether it exists or not; None without the `pids` controller."""
        parent = _own_group()
        return None if parent is None else cls(parent / f"graft-{zlib.crc32(os.fsencode(job)):08x}")

    def enter(self, limit: int) -> bool:
        """Make the group and move this process into it; return False where that is not allowed."""
        try:
            self.path.mkdir(exist_ok=True)
            _write(self.path / LIMIT, limit)
            _write(self.path / MEMBERS, os.getpid())
        except OSError:  # no rights, or a version 2 hierarchy that is not delegated
            self.remove()
            return False
        return True

    def forbid_forks(self) -> None:
        """Let no process of the group start another one: only then does killing them come to an end."""
        with contextlib.suppress(OSError):
            _write(self.path / LIMIT, 0)

    def leave(self) -> None:
        """Move this process back and remove the group, which must be empty then."""
        with contextlib.suppress(OSError):
            _write(self.path.parent / MEMBERS, os.getpid())
        self.remove()

    def remove(self) -> None:
        """Remove the group if it exists and is empty."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _own_group() -> Path | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "pids":
                return ROOT / "pids" / path.strip("/")
            if not controllers and (ROOT / "cgroup.controllers").exists():
                return ROOT / path.strip("/")
    return None


def _write(path: Path, value: int) -> None:
    with path.open("r+") as file:  # never created: a controller that is not there has no file
        file.write(str(value))
