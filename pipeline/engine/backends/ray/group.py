"""What is known of the replicas of an attempt, and what it means for the job."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.engine.backends import RunState, RunStatus
from pipeline.engine.backends.ray.replicas import CHIEF, SERVER, Replica
from pipeline.engine.backends.run_files import STOPPED_CODE, Ending
from pipeline.engine.backends.supervisor import is_signal

SETTLE_SECONDS = 3.0  # after a replica failed: another may have failed before, and be the cause
SILENT_SECONDS = 120.0  # Ray needs 66 s to see that a node is lost
LINE_BYTES = 65536  # of a line that does not end
TAIL_BYTES = 1000


class GroupLog:
    """One log of all replicas; each line begins with the name of its own.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open_lines: dict[str, bytes] = {}
        self._tails: dict[str, bytes] = {}

    def add(self, name: str, data: bytes) -> None:
        """Add what a replica printed; a line appears when it is complete."""
        *lines, rest = (self._open_lines.get(name, b"") + data).split(b"\n")
        if len(rest) > LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._open_lines[name] = rest
        self._tails[name] = (self._tails.get(name, b"") + data)[-TAIL_BYTES:]
        self._write(name, lines)

    def close(self, name: str) -> None:
        """Add the last line of a replica if it has no end."""
        if rest := self._open_lines.pop(name, b""):
            self._write(name, [rest])

    def _write(self, name: str, lines: Sequence[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write(b"".join(b"[%s] %s\n" % (name.encode(), line) for line in lines))

    def note(self, text: str) -> None:
        """Add a line of Graft's own."""
        self._write("graft", [text.encode()])

    def repeat_end(self, name: str) -> None:
        """Repeat how the log of a replica ended: the message of the job shows the end of the log."""
        if tail := self._tails.get(name, b"").strip():
            self.note(f"The log of {name} ended with:")
            with self._path.open("ab") as file:
                file.write(tail + b"\n")


class ReplicaGroup:
    """The replicas of one attempt: the chief's end decides, one that fails ends all.

    Args:
        replicas: All of them.
        log: Takes what they print.
        grace_seconds: How long workers may go on when the chief has succeeded.
        clock: Returns seconds.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        log: GroupLog,
        *,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roles = {replica.name: replica.role for replica in replicas}
        (self._chief,) = (name for name, role in self._roles.items() if role == CHIEF)
        self._log = log
        self._grace = grace_seconds
        self._clock = clock
        self._started: dict[str, float] = {}
        self._endings: dict[str, Ending] = {}
        self._gone: dict[str, str] = {}
        self._heard: dict[str, float] = {}  # when a replica was last known to live
        self._known: dict[str, float] = {}  # when its end was
        self._outcome: Ending | None = None
        self._culprit = ""
        self.metrics = b""

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event of `placement`."""
        if "waiting" in event:
            self._log.note(event["waiting"])
        for name, address in event.get("placed", {}).items():
            self._log.note(f"{name} is at {address}.")
        if "replica" in event:
            name = event["replica"]
            self._heard[name] = self._clock()
            for line in event.get("lines", ()):
                self._take_message(name, json.loads(line))
            if "gone" in event:
                self._lose(name, event["gone"])

    def _take_message(self, name: str, message: Mapping[str, Any]) -> None:
        if "started" in message:
            self._started[name] = message["started"]
        if "log" in message:
            self._log.add(name, base64.b64decode(message["log"]))
        if "metrics" in message and name == self._chief:
            self.metrics = base64.b64decode(message["metrics"])
        if "ending" in message:
            self._log.close(name)
            if message["ending"] is None:
                self._lose(name, "Its processes left no exit code.")
            else:
                self._endings[name] = Ending(**message["ending"])
                self._known[name] = self._clock()

    def _lose(self, name: str, reason: str) -> None:
        if name not in self._endings and name not in self._gone:
            self._log.close(name)
            self._gone[name] = reason

    def end(self, reason: str = "", *, is_lost: bool = False) -> None:
        """Decide that the attempt has ended: it was stopped, or cannot go on for a reason."""
        if self._outcome is None:
            code = None if is_lost else 1 if reason else STOPPED_CODE
            self._outcome = Ending(code=code, problem=reason, ended=time.time(), is_lost=is_lost)

    def finish(self) -> None:
        """Write into the log why all were ended, when nothing is printed any more."""
        for name in self._roles:
            self._log.close(name)
        if self._outcome and self._outcome.problem:
            if self._culprit:
                self._log.repeat_end(self._culprit)
            self._log.note(f"{self._outcome.problem} All replicas were ended.")

    @property
    def status(self) -> RunStatus:
        """The status of the attempt; its end stays what it was first."""
        if self._outcome is None and (outcome := self._decide()):
            self._outcome = replace(outcome, started=self._start)
        if self._outcome is not None:
            return self._outcome.status
        state = RunState.PREPARING if self._start is None else RunState.RUNNING
        return RunStatus(state=state, started=self._start)

    @property
    def _start(self) -> float | None:
        """When the last of the programs began; None before all have."""
        return max(self._started.values()) if len(self._started) == len(self._roles) else None

    def _decide(self) -> Ending | None:
        chief = self._endings.get(self._chief)
        if chief and _has_succeeded(chief):
            return chief if self._is_done() else None
        if self._gone:
            name, reason = next(iter(self._gone.items()))
            problem = f"The replica {name} was lost with its node or its process. Ray says: {reason}"
            return Ending(code=None, problem=problem, ended=time.time(), is_lost=True)
        failures = {name: end for name, end in self._endings.items() if not _has_succeeded(end)}
        if not failures or not self._is_settled(min(self._known[name] for name in failures)):
            return None
        self._culprit = min(failures, key=lambda name: failures[name].ended or 0.0)
        return _failure(self._culprit, failures[self._culprit])

    def _is_done(self) -> bool:
        """Return True if nothing is left that may go on when the chief has succeeded."""
        others = (name for name, role in self._roles.items() if role not in (CHIEF, SERVER))
        is_late = self._clock() > self._known[self._chief] + self._grace
        return is_late or all(name in self._endings or name in self._gone for name in others)

    def _is_settled(self, first: float) -> bool:
        """Return True if all others lived after the first failure: what is lost fails others, too."""
        waited = self._clock() - first
        if waited < SETTLE_SECONDS:
            return False
        silent = [
            name for name in self._roles if name not in self._endings and self._heard.get(name, 0) <= first
        ]
        return not silent or waited > SILENT_SECONDS


def _has_succeeded(ending: Ending) -> bool:
    return ending.code == 0 and not ending.problem and not ending.timed_out


def _failure(name: str, ending: Ending) -> Ending:
    """Return how the job ends by one replica: as lost, and so run again, if a signal ended it."""
    if ending.timed_out:
        return ending
    if ending.problem:
        problem = ending.problem if ending.preparing else f"The replica {name}: {ending.problem}"
        return replace(ending, problem=problem)
    if ending.preparing:
        problem = f"The packages of {name} could not be installed: status {ending.code}."
    elif ending.code is not None and is_signal(ending.code):
        problem = f"The replica {name} was ended by a signal (status {ending.code})."
        return replace(ending, problem=problem, is_lost=True)
    else:
        problem = (
            f"The replica {name} exited with a non-zero status of {ending.code}. Termination reason: Error."
        )
    return replace(ending, problem=problem, preparing=False)
