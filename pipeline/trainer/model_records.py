"""What lies beside a SavedModel of ours: labels, the head's arrays and the novelty."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.model_files import HEAD, LABELS, NOVELTY
from pipeline.npz import write_npz
from pipeline.tflite.head import TrainedHead
from pipeline.tflite.novelty import Novelty

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead


def write_records(
    directory: Path, classes: Sequence[str], head: TrainedHead | KerasHead, novelty: Novelty | None
) -> None:
    """Write the records of a model into its directory, `graft/`."""
    (directory / "graft").mkdir(exist_ok=True)
    labels = json.dumps(list(classes), ensure_ascii=False, indent=2)
    (directory / LABELS).write_text(labels + "\n", encoding="utf-8")
    if isinstance(head, TrainedHead):
        (directory / HEAD).write_bytes(write_npz(head.arrays()))
    else:
        head.write(directory)
    if novelty is not None:
        (directory / NOVELTY).write_bytes(write_npz(novelty.arrays()))
