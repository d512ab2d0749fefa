"""What is left of a fine-tuning after each epoch, so that a job that does the same work goes on from there.

A checkpoint lies in the directory of the job that wrote it, replaced after each epoch and deleted when the
job is done. Another job finds it by the digest of the work: each job leaves its name under it beforehand.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import History
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import BadArchive
from pipeline.npz import read_npz, write_npz
from pipeline.trainer.shared_cache import share_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_ABOUT, _NOW, _BEST = "about", "now", "best"  # of the archive's arrays


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """The state of a training between two epochs.

    Args:
        history: Loss and accuracy of each epoch that is done.
        has_ended: Whether no epoch is left to do.
        now: Every variable that training changes.
        best: The trained weights of the epoch that is kept so far.
    """

    history: History = field(default_factory=dict)
    has_ended: bool = False
    now: list[NDArray[np.generic]] = field(default_factory=list)
    best: list[NDArray[np.generic]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.history.get("loss", ()))

    def to_bytes(self) -> bytes:
        """Return the checkpoint as an NPZ."""
        about = json.dumps({"history": self.history, "has_ended": self.has_ended}).encode()
        arrays = {
            f"{part}_{number:04d}": array
            for part, values in ((_NOW, self.now), (_BEST, self.best))
            for number, array in enumerate(values)
        }
        return write_npz({_ABOUT: np.frombuffer(about, np.uint8), **arrays})

    @classmethod
    def from_bytes(cls, data: bytes, *, origin: str) -> Checkpoint:
        """Read what `to_bytes` wrote.

        Raises:
            BadArchive: if it is something else, or damaged.
        """
        arrays = read_npz(data, origin=origin)
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        parts = {
            part: [arrays[name] for name in sorted(arrays) if name.startswith(part)] for part in (_NOW, _BEST)
        }
        return cls(history=about["history"], has_ended=about["has_ended"], **parts)


class CheckpointStore:
    """Where the checkpoint of one training is kept, and found again.

    Args:
        workspace: Where jobs leave their names.
        job: The directory of this job.
        digest: Of the work: what trains, on what and how.
        stage: Which of the trainings of a job it is.
    """

    def __init__(self, workspace: Workspace, job: JobDirectory, *, digest: str, stage: str) -> None:
        self._workspace, self._job, self._stage = workspace, job, stage
        self._folder = workspace.finetunings(digest)

    def find(self) -> Checkpoint | None:
        """Return the checkpoint of the most epochs that a job of this work has left; None without any."""
        self._leave_name()
        return max(self._read(), key=lambda checkpoint: checkpoint.epochs, default=None)

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of this job."""
        self._job.storage.write_bytes(self._job.checkpoint(self._stage), checkpoint.to_bytes())

    def _leave_name(self) -> None:
        id = self._workspace.job_id_of(self._job.uri)
        if id:  # a job that writes elsewhere begins again when it is killed
            share_bytes(self._workspace.storage, self._folder + id, b"")

    def _read(self) -> Iterator[Checkpoint]:
        storage = self._workspace.storage
        ids = [uri.removeprefix(self._folder) for uri in storage.list_uris(self._folder)]
        for uri in {self._workspace.job(id).checkpoint(self._stage) for id in ids}:
            if not storage.exists(uri):
                continue
            try:
                yield Checkpoint.from_bytes(storage.read_bytes(uri), origin=uri)
            except BadArchive as error:
                logger.warning("%s is refused: %s", uri, error)
