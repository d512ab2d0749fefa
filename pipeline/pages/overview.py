"""The page of all classifiers: a row for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.artifacts.dataset import DatasetInfo
from pipeline.artifacts.history import SERVING, EventType, HistoryEvent, withdrawn_versions
from pipeline.artifacts.metrics import Interval
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.run_status import RunStatus, read_run_status
from pipeline.pages.schedule import Run, Scheduled
from pipeline.pages.sparkline import Sparkline, draw_sparkline

TREND = 20  # deployments in the line


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A classifier in one row.

    Args:
        scheduled: What the scheduler says of it.
        serving: The version that has the traffic; None if there is none or if it is unknown.
        accuracy: Of that version, on its test pictures.
        interval: Of the accuracy, 95 %; None where the version carries none.
        trend: Accuracy of the last deployments.
        verdict: The outcome of the newest run; None before the first.
        data: The latest dataset version.
        pictures: How many it holds.
        traffic: Predictions that its versions answered; None where the engine does not count.
        lost: How many versions the bucket holds while the engine serves none: its database was lost.
        number: What people call the version that serves: 3 if it was the third that ever did.
    """

    scheduled: Scheduled
    serving: str | None
    accuracy: float | None
    trend: Sparkline | None
    verdict: RunStatus | None
    data: DatasetInfo | None
    pictures: int
    traffic: int | None = None
    lost: int = 0
    number: int | None = None
    interval: Interval | None = None


def find_alarms(
    cache: ArtifactCache, classifiers: Iterable[Scheduled]
) -> list[tuple[Scheduled, Run, RunStatus]]:
    """Return the classifiers whose newest run failed or was refused, the newest run first."""
    alarms = []
    for each in classifiers:
        status = read_run_status(cache, each.name, each.last_run) if each.last_run else None
        if each.last_run and status and status.needs_somebody:
            alarms.append((each, each.last_run, status))
    return sorted(alarms, key=lambda alarm: str(alarm[1].started or ""), reverse=True)


def describe_classifiers(
    cache: ArtifactCache,
    classifiers: Iterable[Scheduled],
    serving: Mapping[str, str] | None,
    traffic: Mapping[str, int] | None = None,
) -> list[Overview]:
    """Return a row for each classifier, in their order.

    Args:
        cache: The bucket.
        classifiers: What the scheduler has.
        serving: Default version by model, as the engine says; None if it does not answer.
        traffic: Predictions by model, None where the engine does not count them.
    """
    return [
        describe_classifier(
            cache,
            each,
            None if serving is None else serving.get(each.name),
            is_known=serving is not None,
            traffic=None if traffic is None else traffic.get(each.name, 0),
        )
        for each in classifiers
    ]


def describe_classifier(
    cache: ArtifactCache,
    scheduled: Scheduled,
    serving: str | None,
    *,
    is_known: bool = True,
    traffic: int | None = None,
) -> Overview:
    """Return the row of one classifier.

    Args:
        cache: The bucket.
        scheduled: What the scheduler has.
        serving: Its default version; None if there is none or if it is unknown.
        is_known: Whether the engine answered.
        traffic: Predictions that its versions answered.
    """
    name, run = scheduled.name, scheduled.last_run
    history, numbers = cache.numbered_history(name, TREND)
    deployed = [event for event in history if event.event is EventType.PROMOTED]
    accuracies = tuple(event.accuracy for event in deployed if event.accuracy is not None)
    data = cache.latest_dataset(name)
    return Overview(
        scheduled=scheduled,
        serving=serving,
        accuracy=find_accuracy(cache, name, serving, history),
        trend=draw_sparkline(accuracies),
        verdict=read_run_status(cache, name, run, withdrawn_versions(history)) if run else None,
        data=data,
        pictures=sum(data.pictures.values()) if data else 0,
        traffic=traffic,
        lost=_count_lost(cache, name, history) if is_known and not serving else 0,
        number=numbers.get(serving) if serving else None,
        interval=cache.accuracy_interval(name, serving) if serving else None,
    )


def _count_lost(cache: ArtifactCache, name: str, history: Iterable[HistoryEvent]) -> int:
    """Return how many versions the bucket holds of a classifier that has served."""
    if not any(event.event in SERVING for event in history):
        return 0
    return len(cache.workspace.list_model_versions(name))


def find_accuracy(
    cache: ArtifactCache, name: str, serving: str | None, history: Iterable[HistoryEvent]
) -> float | None:
    """Return the accuracy that its last promotion recorded, else that of the version's own lineage.

    Args:
        cache: The bucket.
        name: The classifier.
        serving: Its default version; None if there is none or if it is unknown.
        history: The last `TREND` events, oldest first.
    """
    if serving is None:
        return None
    accuracies = {
        event.version: event.accuracy
        for event in history
        if event.event is EventType.PROMOTED and event.accuracy is not None
    }
    if serving in accuracies:
        return accuracies[serving]
    lineage = cache.lineage(name, serving)
    return lineage.gate.metrics.accuracy if lineage else None
