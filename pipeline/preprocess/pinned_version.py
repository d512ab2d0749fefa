"""A dataset version that is there already, for a run that trains on it as it is."""

from __future__ import annotations

from datetime import datetime

from pipeline.artifacts.dataset import list_infos, list_versions, read_info
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.steps import CleanResult
from pipeline.artifacts.takedowns import read_takedowns
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import DatasetError, ObjectNotFound, SourceNotFound
from pipeline.preprocess.publish import describe_result


def pin_dataset_version(workspace: Workspace, dataset: str, version: str) -> CleanResult:
    """Return a finished dataset version as the clean step would, without any work.

    Raises:
        SourceNotFound: if there is no such version.
        DatasetError: if a picture of it has been taken down since.
    """
    folder = workspace.dataset(dataset)
    try:
        info = read_info(folder.version(version))
    except ObjectNotFound as error:
        versions = ", ".join(list_versions(folder)) or "none yet"
        raise SourceNotFound(
            f"{dataset} has no dataset version {version}, which `dataset.as_of` names; known: {versions}."
        ) from error
    _check_takedowns(workspace, dataset, version)
    return describe_result(workspace, info)


def find_version_as_of(workspace: Workspace, dataset: str, moment: datetime) -> str:
    """Return the dataset version that was the latest one at a moment.

    Raises:
        SourceNotFound: if there was none yet that the data gate had let through.
    """
    infos = list_infos(workspace.dataset(dataset))
    earlier = [
        info
        for info in infos
        if not info.expect.outcome.is_held and datetime.fromisoformat(info.created_at) <= moment
    ]
    if not earlier:
        first = infos[0].created_at if infos else "none yet"
        raise SourceNotFound(
            f"{dataset} had no dataset version at {moment.isoformat()}; its first one: {first}. Backfill "
            "dates after that, or name a version with `dataset.as_of`."
        )
    return earlier[-1].version


def _check_takedowns(workspace: Workspace, dataset: str, version: str) -> None:
    folder = workspace.dataset(dataset)
    gone = {takedown.id for takedown in read_takedowns(folder)} - {None}
    rows = Manifest(folder.version(version)).rows(columns=("id", "split"))
    used = sum(row.split is not None and row.id in gone for row in rows)
    if used:
        raise DatasetError(
            f"{used} pictures of dataset version {version} of {dataset} have been taken down since; "
            "it trains no further model. Choose a later version."
        )
