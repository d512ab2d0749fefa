"""What a served version tells about itself: its labels and the pictures it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.folders import DatasetVersionFolder, ModelDirectory
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.model_record import read_labels, read_lineage
from pipeline.errors import ObjectNotFound
from pipeline.evaluate.predictions import PredictionJob
from pipeline.evaluate.ratchet import ServedVersion
from pipeline.storage import Storage

TRAIN, TEST = "train", "test"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionPictures:
    """The pictures of the champion's dataset version.

    Args:
        labels: Label of each kept picture, by id.
        trained: Ids of those that it was trained on.
        tested: Ids of its test pictures.
        split_method: How they were told apart; empty if unknown.
    """

    labels: Mapping[str, str]
    trained: frozenset[str]
    tested: frozenset[str]
    split_method: str


def read_split_method(dataset: DatasetVersionFolder) -> str:
    """Return how a dataset version is split; empty if it is not told."""
    try:
        return read_info(dataset).split.method
    except ObjectNotFound:
        return ""


def read_champion_pictures(storage: Storage, champion: Champion | ServedVersion) -> ChampionPictures | None:
    """Return the pictures of the dataset version that a version was trained on; None if they are unknown."""
    if champion.dataset_uri is None:
        return None
    columns, folder = ("id", "label", "status", "split"), DatasetVersionFolder(storage, champion.dataset_uri)
    rows = Manifest(folder).rows(columns)
    try:
        kept = [(row.id, row.label, row.split) for row in rows if row.is_kept and row.id is not None]
    except ObjectNotFound:
        return None
    return ChampionPictures(
        labels={id: label for id, label, _ in kept},
        trained=frozenset(id for id, _, split in kept if split == TRAIN),
        tested=frozenset(id for id, _, split in kept if split == TEST),
        split_method=read_split_method(folder),
    )
