"""What a served version tells about itself: its labels and the pictures it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.model_record import read_labels, read_lineage
from pipeline.artifacts.workspace import DatasetVersionFolder, ModelDirectory
from pipeline.errors import ObjectNotFound
from pipeline.evaluate.predictions import PredictionJob
from pipeline.storage import Storage

TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version that serves.

    Args:
        version: Its name.
        job: The batch prediction job that asked it; None where it cannot be asked.
        output_path: Where its predictions are.
        classes: Its labels in the order of its outputs; None where it carries no metadata of Graft's.
        dataset_uri: The dataset version it was trained on; None if unknown.
    """

    version: str
    job: str | None = None
    output_path: str = ""
    classes: tuple[str, ...] | None = None
    dataset_uri: str | None = None


def find_labels(models: Sequence[ModelDirectory]) -> tuple[str, ...] | None:
    """Return the labels of a version from the first model directory that has them, None if none does."""
    return next((labels for model in models if (labels := read_labels(model)) is not None), None)


def read_champion(version: str, job: PredictionJob, models: Sequence[ModelDirectory]) -> Champion:
    """Describe the champion that a batch prediction job asked.

    Args:
        version: Its name.
        job: The finished job.
        models: Where its model directory may be; the first that has our metadata counts.
    """
    lineage = next((lineage for model in models if (lineage := read_lineage(model)) is not None), None)
    return Champion(
        version=version,
        job=job.job,
        output_path=job.output_path,
        classes=find_labels(models),
        dataset_uri=lineage.dataset.uri if lineage else None,
    )


def count_seen_pictures(storage: Storage, champion: Champion, test_ids: set[str]) -> int | None:
    """Return how many of the test pictures the champion was trained on; None if unknown."""
    if champion.dataset_uri is None:
        return None
    rows = Manifest(DatasetVersionFolder(storage, champion.dataset_uri)).rows(("id", "status", "split"))
    try:
        trained = {row.id for row in rows if row.is_kept and row.split == TRAIN}
    except ObjectNotFound:
        return None
    return len(trained & test_ids)
