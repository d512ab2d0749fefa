"""A dataset version that is there already, for a run that trains on it as it is."""

from __future__ import annotations

from datetime import datetime

from pipeline.artifacts.dataset import (
    DatasetInfo,
    list_versions,
    read_dataset_info,
    read_manifest,
    version_uri,
)
from pipeline.artifacts.steps import CleanResult
from pipeline.errors import DatasetError, ObjectNotFound, SourceNotFound
from pipeline.preprocess.decisions import read_takedowns
from pipeline.preprocess.expectations import DataOutcome, Expectations
from pipeline.storage import Storage


def pin_dataset_version(storage: Storage, workspace: str, dataset: str, version: str) -> CleanResult:
    """Return a finished dataset version as the clean step would, without any work.

    Raises:
        SourceNotFound: if there is no such version.
        DatasetError: if a picture of it has been taken down since.
    """
    try:
        info = read_dataset_info(storage, workspace, dataset, version)
    except ObjectNotFound as error:
        known = ", ".join(list_versions(storage, workspace, dataset)) or "none yet"
        raise SourceNotFound(
            f"{dataset} has no dataset version {version}, which `dataset.as_of` names; known: {known}."
        ) from error
    _check_takedowns(storage, workspace, dataset, version)
    return CleanResult(
        dataset=dataset,
        version=version,
        uri=version_uri(workspace, dataset, version),
        classes=info.pictures,
        pictures=sum(info.pictures.values()),
        test_pictures=sum(info.test.values()),
        train_pictures=sum(info.train.values()),
        rejected=info.rejected,
        decoded=0,
        warnings=[],
        expect=Expectations.from_dict({}).to_dict(),
        new=False,
    )


def find_version_as_of(storage: Storage, workspace: str, dataset: str, moment: datetime) -> str:
    """Return the dataset version that was the latest one at a moment.

    Raises:
        SourceNotFound: if there was none yet that the data gate had let through.
    """
    infos = [
        read_dataset_info(storage, workspace, dataset, version)
        for version in list_versions(storage, workspace, dataset)
    ]
    earlier = [
        info for info in infos if not _is_held(info) and datetime.fromisoformat(info.created_at) <= moment
    ]
    if not earlier:
        first = infos[0].created_at if infos else "none yet"
        raise SourceNotFound(
            f"{dataset} had no dataset version at {moment.isoformat()}; its first one: {first}. Backfill "
            "dates after that, or name a version with `dataset.as_of`."
        )
    return earlier[-1].version


def _is_held(info: DatasetInfo) -> bool:
    return bool(info.expect) and DataOutcome(info.expect["outcome"]).is_held


def _check_takedowns(storage: Storage, workspace: str, dataset: str, version: str) -> None:
    gone = {takedown.id for takedown in read_takedowns(storage, workspace, dataset)} - {None}
    used = sum(
        row.split is not None and row.id in gone
        for row in read_manifest(storage, workspace, dataset, version)
    )
    if used:
        raise DatasetError(
            f"{used} pictures of dataset version {version} of {dataset} have been taken down since; "
            "it trains no further model. Choose a later version."
        )
