"""The files of a run in the bucket, by which the engine and the node of an attempt know of each other.

`<workspace>/engine/ray/<run>/<attempt>/` holds all of these; `<workspace>/engine/local/<run>/`, of a run on
the machine of a team's engine, holds how it went:
  `job.json`       what to run: the engine wrote it before it submitted the attempt;
  `claim.json`     which node has it: created once, so an attempt is never run twice;
  `running.json`   when its program began;
  `log/...`        what it printed, in pieces that are named by their offset and their length;
  `metrics`        the end of the file to which it reports metrics;
  `exit.json`      how it ended: created once, by the node, or by the engine for one that is lost or stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pipeline.engine.backends import RunState, RunStatus, TrainingJob
from pipeline.engine.settings import EngineSettings
from pipeline.errors import ObjectNotFound
from pipeline.storage import Storage
from pipeline.types import JsonObject

STOPPED_CODE = 143  # of a program that SIGTERM ended


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """What a node runs.

    Args:
        key: Tells the submissions of this run from those of other engines.
        version: Graft's, of the engine.
        workspace: URI of the workspace.
        job: The job.
        settings: Those of the engine's settings that hold for jobs.
    """

    key: str
    version: str
    workspace: str
    job: TrainingJob
    settings: JsonObject

    def limits(self) -> EngineSettings:
        """Return the settings that hold on the node: the engine's for jobs, its own for all others."""
        return EngineSettings.model_validate({**EngineSettings().model_dump(), **self.settings})

    def to_json(self) -> bytes:
        """Return it as the bytes of its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read its file."""
        value = json.loads(data)
        job = value.pop("job")
        job |= {"package_uris": tuple(job["package_uris"]), "args": tuple(job["args"])}
        return cls(job=TrainingJob(**job), **value)

    def after(self, seconds: float) -> JobFile:
        """Return the file of the next attempt, of which the time that was used is taken.

        Args:
            seconds: How long the program of this attempt ran.
        """
        remaining = max(1.0, self.job.max_running_seconds - seconds)
        return replace(self, job=replace(self.job, max_running_seconds=remaining))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended.

    Args:
        code: The exit status of its program.
        timed_out: Whether it passed its maximum running time.
        problem: Why it was ended, if it was.
        preparing: Whether what ended was the installation of its packages.
        started: When its program began, in seconds of the epoch.
        ended: When it ended.
        is_lost: Whether its node is lost, so that another attempt may follow.
        is_stopped: Whether the engine stopped it.
    """

    code: int | None
    timed_out: bool = False
    problem: str = ""
    preparing: bool = False
    started: float | None = None
    ended: float | None = None
    is_lost: bool = False
    is_stopped: bool = False

    @classmethod
    def of(cls, status: RunStatus) -> Self:
        """Return the ending that a status describes."""
        return cls(
            code=status.exit_code,
            timed_out=status.timed_out,
            problem=status.problem,
            preparing=status.preparing,
            started=status.started,
            ended=status.ended,
        )

    @classmethod
    def stopped(cls) -> Self:
        """Return the ending of an attempt that the engine stops."""
        return cls(code=STOPPED_CODE, ended=time.time(), is_stopped=True)

    @property
    def status(self) -> RunStatus:
        """The status of its run, if no other attempt follows."""
        return RunStatus(
            state=RunState.VANISHED if self.is_lost else RunState.EXITED,
            exit_code=self.code,
            timed_out=self.timed_out,
            problem=self.problem,
            preparing=self.preparing,
            started=self.started,
            ended=self.ended,
        )


class AttemptFiles:
    """The files of one attempt of a run.

    Args:
        storage: Has the bucket.
        folder: Their URI.
    """

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self.folder = folder

    @property
    def job_uri(self) -> str:
        """Where `job.json` is."""
        return f"{self.folder}/job.json"

    def _read(self, name: str) -> Any:
        try:
            return json.loads(self._storage.read_bytes(f"{self.folder}/{name}"))
        except ObjectNotFound:
            return None

    def _create(self, name: str, value: JsonObject) -> bool:
        return self._storage.create_bytes(f"{self.folder}/{name}", json.dumps(value).encode())

    def create_job(self, job: JobFile) -> JobFile:
        """Write what to run; return what was written first."""
        self._storage.create_bytes(self.job_uri, job.to_json())
        return JobFile.from_json(self._storage.read_bytes(self.job_uri))

    def read_job(self) -> JobFile | None:
        """Return what to run; None if there is no such attempt."""
        try:
            return JobFile.from_json(self._storage.read_bytes(self.job_uri))
        except ObjectNotFound:
            return None

    def claim(self, node: str) -> bool:
        """Take the attempt for a node; return False if another start has it."""
        return self._create("claim.json", {"node": node, "time": time.time()})

    def is_claimed(self) -> bool:
        """Return True if a node began with it."""
        return self._storage.exists(f"{self.folder}/claim.json")

    def note_start(self, started: float) -> None:
        """Write when its program began."""
        self._create("running.json", {"started": started})

    def started(self) -> float | None:
        """Return when its program began; None if it has not."""
        value = self._read("running.json")
        return None if value is None else float(value["started"])

    def end(self, ending: Ending) -> bool:
        """Write how it ended; return False if that is known already."""
        return self._create("exit.json", asdict(ending))

    def ending(self) -> Ending | None:
        """Return how it ended; None if it has not."""
        value = self._read("exit.json")
        return None if value is None else Ending(**value)

    def write_metrics(self, data: bytes) -> None:
        """Replace the end of its metric file."""
        self._storage.write_bytes(f"{self.folder}/metrics", data)

    def metrics(self) -> bytes:
        """Return the end of its metric file; nothing before it reports any."""
        try:
            return self._storage.read_bytes(f"{self.folder}/metrics")
        except ObjectNotFound:
            return b""

    def write_log(self, start: int, data: bytes) -> None:
        """Write a piece of its log."""
        self._storage.write_bytes(f"{self.folder}/log/{start:015d}-{len(data)}", data)

    def log_pieces(self) -> list[LogPiece]:
        """Return the pieces of its log, in order."""
        uris = self._storage.list_uris(f"{self.folder}/log/")
        return sorted((LogPiece.read(uri) for uri in uris), key=lambda piece: piece.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """A piece of a log in an object of its own.

    Args:
        start: Its offset in the log, in bytes.
        length: Its size.
        uri: Where it is.
    """

    start: int
    length: int
    uri: str

    @classmethod
    def read(cls, uri: str) -> Self:
        """Return the piece that an object's name describes."""
        start, _, length = uri.rpartition("/")[2].partition("-")
        return cls(start=int(start), length=int(length), uri=uri)
