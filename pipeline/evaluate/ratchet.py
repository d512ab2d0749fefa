"""The most accurate version that served lately: what a candidate is held against beside its champion.

Its answers are those of its own evaluation, on the test pictures that both have. It never trained on them,
because the split is sticky and they were its own test pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.artifacts.history import HistoryEvent, read_history, serving_periods
from pipeline.artifacts.model_record import read_labels, read_lineage
from pipeline.artifacts.workspace import Workspace

MAX_AGE = timedelta(days=365)
MAX_VERSIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """A version that served.

    Args:
        version: Its name.
        accuracy: On the test pictures of its run.
        classes: Its labels in the order of its outputs.
        output_path: The predictions of its evaluation.
        dataset_uri: The dataset version it was trained on; None if unknown.
    """

    version: str
    accuracy: float
    classes: tuple[str, ...]
    output_path: str
    dataset_uri: str | None = None


def find_better_versions(
    workspace: Workspace, model: str, *, champion: str, now: datetime
) -> list[ServedVersion]:
    """Return the versions of late that were more accurate than the champion, the most accurate first.

    Args:
        workspace: Where histories and model directories are.
        model: The model.
        champion: The version that serves.
        now: The time.
    """
    serving = _describe(workspace, model, champion)
    floor = serving.accuracy if serving else 0.0
    names = list_served_lately(read_history(workspace, model), now=now)
    versions = [served for name in names if (served := _describe(workspace, model, name))]
    better = [version for version in versions if version.accuracy > floor]
    return sorted(better, key=lambda version: -version.accuracy)


def list_served_lately(history: list[HistoryEvent], *, now: datetime) -> list[str]:
    """Return the versions that served within the last 365 days, at most 20, the last one first."""
    periods = serving_periods(history)
    recent = [
        period.version
        for period in reversed(periods)
        if period.until is None or datetime.fromisoformat(period.until) >= now - MAX_AGE
    ]
    return list(dict.fromkeys(recent))[:MAX_VERSIONS]


def _describe(workspace: Workspace, model: str, version: str) -> ServedVersion | None:
    directory = workspace.model(model, version)
    lineage, labels = read_lineage(directory), read_labels(directory)
    if lineage is None or labels is None:
        return None
    return ServedVersion(
        version=version,
        accuracy=lineage.gate.metrics.accuracy,
        classes=labels,
        output_path=workspace.job(lineage.evaluation_job).predictions,
        dataset_uri=lineage.dataset.uri,
    )


def best_served(history: list[HistoryEvent], *, now: datetime) -> str | None:
    """Return the most accurate version of late by the history, None if it records no accuracy."""
    names = list_served_lately(history, now=now)
    scored = [
        (event.accuracy, event.version)
        for event in history
        if event.version in names and event.accuracy is not None
    ]
    return max(scored)[1] if scored else None
