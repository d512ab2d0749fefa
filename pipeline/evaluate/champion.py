"""What a served version says of itself: its labels and the pictures it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ObjectNotFound
from pipeline.ml_engine.resources import Job
from pipeline.storage import Storage

TRAIN = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The version that serves.

    Args:
        version: Its name.
        job: The batch prediction job that asked it; None where it cannot be asked.
        output_path: Where its predictions are.
        classes: Its labels in the order of its outputs; None where it carries no metadata of ours.
        dataset_uri: The dataset version it was trained on, where it says so.
    """

    version: str
    job: str | None = None
    output_path: str = ""
    classes: tuple[str, ...] | None = None
    dataset_uri: str | None = None


def read_labels(storage: Storage, model_uris: Sequence[str]) -> tuple[str, ...] | None:
    """Return the labels of a version, None where no model directory has our metadata."""
    for uri in model_uris:
        labels = _read(storage, f"{uri}/graft/labels.json")
        if labels is not None:
            return tuple(map(str, labels))
    return None


def read_champion(storage: Storage, version: str, job: Job, model_uris: Sequence[str]) -> Champion:
    """Describe the champion that a batch prediction job asked.

    Args:
        storage: Where model directories are.
        version: Its name.
        job: The finished job.
        model_uris: Where its model directory may be; the first that has our metadata counts.
    """
    lineages = (_read(storage, f"{uri}/graft/lineage.json") for uri in model_uris)
    lineage: Mapping[str, Any] = next((found for found in lineages if found is not None), {})
    return Champion(
        version=version,
        job=job["jobId"],
        output_path=job["predictionInput"]["outputPath"],
        classes=read_labels(storage, model_uris),
        dataset_uri=lineage.get("dataset", {}).get("uri"),
    )


def _read(storage: Storage, uri: str) -> Any:
    try:
        return storage.read_json(uri)
    except ObjectNotFound:
        return None


def count_seen_pictures(storage: Storage, champion: Champion, test_ids: set[str]) -> int | None:
    """Return how many of the test pictures the champion was trained on; None where nobody knows."""
    if champion.dataset_uri is None:
        return None
    try:
        manifest = storage.read_bytes(f"{champion.dataset_uri}/manifest.jsonl")
    except ObjectNotFound:
        return None
    rows = map(json.loads, manifest.splitlines())
    trained = {row["id"] for row in rows if row["status"] == "kept" and row["split"] == TRAIN}
    return len(trained & test_ids)
