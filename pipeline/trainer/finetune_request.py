"""What the process that fine-tunes is asked, and what it answers: files of a folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts.training import Calibration, History
from pipeline.npz import read_npz, write_npz
from pipeline.tflite.head import Head

if TYPE_CHECKING:
    from numpy.typing import NDArray

REQUEST, RESULT, RECORD = "request.npz", "result.npz", "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRequest:
    """What is trained, row by row of the pack.

    Args:
        pool: Which pictures train the model that is kept.
        judges: Which pictures judge a training that they are no part of; none for no such training.
        chooses: Whether they choose the epoch that is kept.
        start: The head that the model begins from.
        judged_start: The head that the judged training begins from, which the judges did not train either.
    """

    pool: NDArray[np.bool_]
    judges: NDArray[np.bool_]
    chooses: bool
    start: Head
    judged_start: Head

    def write(self, folder: Path) -> None:
        """Write the request where `main` reads it."""
        heads = {"start": self.start, "judged_start": self.judged_start}
        arrays = {
            f"{name}/{part}": array for name, head in heads.items() for part, array in head.arrays().items()
        }
        masks = {"pool": self.pool, "judges": self.judges, "chooses": np.array([self.chooses])}
        (folder / REQUEST).write_bytes(write_npz({**arrays, **masks}))

    @classmethod
    def read(cls, folder: Path) -> FinetuneRequest:
        """Read the request of a folder."""
        arrays = read_npz(folder / REQUEST)

        def head(name: str) -> Head:
            return Head(**{field.name: arrays[f"{name}/{field.name}"] for field in fields(Head)})

        return cls(
            pool=arrays["pool"],
            judges=arrays["judges"],
            chooses=bool(arrays["chooses"][0]),
            start=head("start"),
            judged_start=head("judged_start"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What was trained.

    Args:
        head: The head, its temperature folded in.
        weights: Those of the backbone, by the names they are staged under; empty if it stayed as it was.
        outputs: What the model answers for the first pictures of the pack.
        history: Loss and accuracy of each epoch.
        best_epoch: The epoch that was kept, or to which all pictures trained.
        calibration: The temperature; None without one.
        trained_parameters: How many numbers were trained.
        resumed_after: Epochs that an earlier job had done.
        input_bytes: Size of the feature maps or pixels.
        peak_memory_bytes: Of the process.
        cpu_seconds: Of the process.
    """

    head: Head
    weights: dict[str, NDArray[np.float32]]
    outputs: NDArray[np.float32]
    history: History
    best_epoch: int
    calibration: Calibration | None
    trained_parameters: int
    resumed_after: int
    input_bytes: int
    peak_memory_bytes: int
    cpu_seconds: float

    def write(self, folder: Path) -> None:
        """Write the result where `read` finds it."""
        arrays = {f"head/{name}": array for name, array in self.head.arrays().items()}
        arrays |= {f"weights/{name}": array for name, array in self.weights.items()}
        (folder / RESULT).write_bytes(write_npz({**arrays, "outputs": self.outputs}))
        plain = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("head", "weights", "outputs", "calibration")
        }
        plain["calibration"] = asdict(self.calibration) if self.calibration else None
        (folder / RECORD).write_text(json.dumps(plain), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> FinetuneResult:
        """Read the result of a folder."""
        arrays = read_npz(folder / RESULT)
        plain: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        calibration = plain.pop("calibration")
        return cls(
            head=Head(**_part(arrays, "head/")),
            weights=_part(arrays, "weights/"),
            outputs=arrays["outputs"],
            calibration=calibration and Calibration(**calibration),
            **plain,
        )


def _part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
