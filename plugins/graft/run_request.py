"""What started a run, and what that asks of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.workspace import Workspace
    from pipeline.config import Classifier


class RunType(StrEnum):
    """How Airflow names what starts runs."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    ASSET = "asset_triggered"
    BACKFILL = "backfill"


def run_type(context: Context) -> RunType:
    """Return what started the run; a kind that is not known counts as by hand."""
    run_type = getattr(_run_of(context), "run_type", RunType.MANUAL)
    name = str(getattr(run_type, "value", run_type))  # Airflow's own enum, whose str() is not its value
    return RunType(name) if name in list(RunType) else RunType.MANUAL


def skips_unchanged(classifier: Classifier, context: Context) -> bool:
    """Return whether this run trains only where there is something new."""
    if classifier.retrain.unchanged == "auto":
        return run_type(context) is not RunType.MANUAL
    return classifier.retrain.unchanged == "skip"


def dataset_version_of_run(workspace: Workspace, classifier: Classifier, context: Context) -> str | None:
    """Return the dataset version that a run is to train on as it is; None for what the sources have now.

    A backfill trains again as of its dates: on the version that was the latest one at the end of the data
    interval.

    Raises:
        SourceNotFound: if there was no version yet.
    """
    if classifier.dataset.as_of is not None or run_type(context) is not RunType.BACKFILL:
        return classifier.dataset.as_of
    from pipeline.preprocess.pinned_version import find_version_as_of

    run = _run_of(context)
    moment = getattr(run, "data_interval_end", None) or run.logical_date
    return find_version_as_of(workspace, classifier.name, moment)


def _run_of(context: Context) -> Any:
    return context["dag_run"]
