"""Fold answers: what the heads of a cross-validation answer for the training pictures they did not see.

Only what a threshold looks at is kept: the most probable class and its probability. No picture is named, so a
takedown has nothing to remove here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.formats import check_format
from pipeline.errors import ObjectNotFound
from pipeline.types import Int64Labels, IntArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.npz import ArraySpec

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldAnswers:
    """The answers of a training job's cross-validation: `fold_answers.npz`.

    Args:
        labels: Class index of each picture.
        predicted: Class index of the most probable class.
        scores: Its probability, with the temperature of the head that was kept.
        groups: Number of the group of near duplicates that each picture is in.

    Shapes:
        labels, predicted, groups: (num_images,) int64.  scores: (num_images,) float32.
    """

    labels: Int64Labels
    predicted: Int64Labels
    scores: NDArray[np.float32]
    groups: IntArray

    def write(self, job: JobDirectory) -> None:
        """Write the answers into the directory of the job; those of a killed try stay, for they are equal."""
        import numpy as np

        from pipeline.npz import write_npz

        arrays = {name: getattr(self, name) for name in _schema() if name != "format"}
        job.storage.create_bytes(job.fold_answers, write_npz({"format": np.array(FORMAT), **arrays}))

    @classmethod
    def find(cls, job: JobDirectory) -> FoldAnswers | None:
        """Return the answers of a job; None if it left none, as jobs of early releases.

        Raises:
            FormatTooNew: if a newer version of Graft wrote them.
            BadArchive: if the file is damaged.
        """
        from pipeline.npz import read_npz

        try:
            data = job.storage.read_bytes(job.fold_answers)
        except ObjectNotFound:
            return None
        head = {"format": _schema()["format"]}
        number = int(read_npz(data, head, origin=job.fold_answers)["format"])
        check_format(cls.__name__, number, FORMAT)
        arrays = read_npz(data, _schema(), origin=job.fold_answers)
        return cls(**{name: array for name, array in arrays.items() if name != "format"})


def _schema() -> dict[str, ArraySpec]:
    from pipeline.npz import ArraySpec  # imports NumPy, which reads its settings then: a job makes them first

    numbers = ArraySpec(kinds="i", shape=(None,), itemsize=8)
    return {
        "format": ArraySpec(kinds="i", shape=(), itemsize=8),
        "labels": numbers,
        "predicted": numbers,
        "scores": ArraySpec(kinds="f", shape=(None,), itemsize=4),
        "groups": numbers,
    }
