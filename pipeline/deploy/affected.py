"""Which model versions were made from a dataset version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.artifacts.model_record import read_lineage
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class AffectedVersion(Record):
    """A model version that was made from a dataset version.

    Args:
        version: The model version.
        dataset_version: The dataset version.
        used_for: What a picture was used for: `train` or `test`.
    """

    version: str
    dataset_version: str
    used_for: str


def find_affected_versions(
    workspace: Workspace, model: str, datasets: Mapping[str, str]
) -> list[AffectedVersion]:
    """Return the model versions that one of the dataset versions went into.

    Args:
        workspace: Where model directories are.
        model: The model's name.
        datasets: The dataset versions, with what each used a picture for: `train` or `test`.
    """
    affected = []
    for version in workspace.list_model_versions(model):
        lineage = read_lineage(workspace.model(model, version))
        if lineage is not None and lineage.dataset.version in datasets:
            affected.append(
                AffectedVersion(
                    version=version,
                    dataset_version=lineage.dataset.version,
                    used_for=datasets[lineage.dataset.version],
                )
            )
    return affected
