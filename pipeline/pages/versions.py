"""The page of one classifier: its versions, what served when, its runs, and two versions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.artifacts.history import EventType, HistoryEvent, withdrawn_versions
from pipeline.artifacts.metrics import Interval
from pipeline.ml_engine.protocol import resource_id
from pipeline.ml_engine.resources import Version
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.run_status import RunStatus, read_run_status
from pipeline.pages.schedule import Run
from pipeline.types import JsonObject

READY = "READY"
MAX_INTERVALS = 40  # files that the first view of a classifier reads
METRICS = (
    ("accuracy", "Accuracy"),
    ("loss", "Log loss"),
    ("macro_f1", "Macro F1"),
    ("roc_auc", "ROC area"),
    ("brier", "Brier score"),
    ("ece", "Calibration error (ECE)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A version of a model.

    Args:
        version: Its name.
        state: As the engine says.
        is_default: Whether it has the traffic.
        created: When.
        accuracy: On the test pictures of its run.
        run_id: The run that made it.
        dataset_version: The pictures it was made from.
        decided_by: `gate`, or the person who took it in spite of the gate.
        interval: Of the accuracy, 95 %; None where it was not read or there is none.
    """

    version: str
    state: str
    is_default: bool
    created: str
    accuracy: float | None
    run_id: str | None
    dataset_version: str | None
    decided_by: str | None
    interval: Interval | None = None

    @property
    def can_serve(self) -> bool:
        """Whether traffic can turn to it."""
        return self.state == READY and not self.is_default


def list_versions(
    cache: ArtifactCache, name: str, resources: Iterable[Version], history: Sequence[HistoryEvent]
) -> list[VersionRow]:
    """Return the versions of a model, newest first.

    What the history does not know of a version is read from the version itself, once.
    """
    promoted = {event.version: event for event in history if event.event is EventType.PROMOTED}
    rows = []
    for resource in resources:
        version = resource_id(resource)
        origin = promoted.get(version) or _read_origin(cache, name, version)
        rows.append(
            VersionRow(
                version=version,
                state=str(resource.get("state")),
                is_default=bool(resource.get("isDefault")),
                created=str(resource.get("createTime", "")),
                accuracy=origin.accuracy if origin else None,
                run_id=origin.run_id if origin else None,
                dataset_version=origin.dataset_version if origin else None,
                decided_by=origin.decided_by if origin else None,
            )
        )
    return sorted(rows, key=lambda row: row.created, reverse=True)


def add_intervals(cache: ArtifactCache, name: str, rows: Sequence[VersionRow]) -> list[VersionRow]:
    """Return versions with the interval of the accuracy of the newest ones; each is read once."""
    newest, older = rows[:MAX_INTERVALS], rows[MAX_INTERVALS:]
    return [replace(row, interval=cache.accuracy_interval(name, row.version)) for row in newest] + [*older]


def _read_origin(cache: ArtifactCache, name: str, version: str) -> HistoryEvent | None:
    """Return what the promotion of a version would have recorded, from its lineage."""
    lineage = cache.lineage(name, version)
    if lineage is None:
        return None
    return HistoryEvent(
        event=EventType.PROMOTED,
        version=version,
        run_id=lineage.run_id,
        dataset_version=lineage.dataset.version,
        accuracy=lineage.gate.metrics.accuracy,
        decided_by=lineage.decided_by,
    )


def list_runs(
    cache: ArtifactCache, name: str, runs: Iterable[Run], history: Iterable[HistoryEvent]
) -> list[tuple[Run, RunStatus]]:
    """Return runs with their outcomes."""
    withdrawn = withdrawn_versions(history)
    return [(run, read_run_status(cache, name, run, withdrawn)) for run in runs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two versions that are compared.

    Args:
        version: Its name.
        run_id: The run that made it.
        dataset_version: Its pictures.
        metrics: By the names of `METRICS`, None where not measured.
        interval: Of the accuracy, 95 %.
        test_pictures: How many it was tested on.
        recalls: Recall by class.
        confusion: For each label, how many of its pictures were taken for each class.
        champion: The version that it was compared with by its run, if there was one.
        gained: Test pictures that it gets right and its champion does not.
        lost: Test pictures that only its champion gets right.
        settings: The configuration of its run, by dotted key.
    """

    version: str
    run_id: str
    dataset_version: str
    metrics: Mapping[str, float | None]
    interval: Sequence[float] | None
    test_pictures: int
    recalls: Mapping[str, float | None]
    confusion: Mapping[str, Mapping[str, int]]
    champion: str | None
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    settings: Mapping[str, str]


def describe_side(cache: ArtifactCache, name: str, version: str) -> Side | None:
    """Return a version for comparison; None where it carries no metadata of Graft's."""
    lineage = cache.lineage(name, version)
    evaluation = cache.evaluation(name, version)
    if lineage is None or evaluation is None:
        return None
    metrics, comparison = evaluation.candidate, evaluation.comparison
    return Side(
        version=version,
        run_id=lineage.run_id,
        dataset_version=lineage.dataset.version,
        metrics={key: metrics.value_of(key) for key, _ in METRICS},
        interval=metrics.accuracy_ci95,
        test_pictures=metrics.test_pictures,
        recalls={
            label: row.get(label, 0) / sum(row.values()) if sum(row.values()) else None
            for label, row in metrics.confusion.items()
        },
        confusion=metrics.confusion,
        champion=evaluation.champion_version,
        gained=comparison.gained if comparison else (),
        lost=comparison.lost if comparison else (),
        settings=dict(_flatten(lineage.classifier)),
    )


def _flatten(value: JsonObject, prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(item)


def changed_settings(left: Side, right: Side) -> list[tuple[str, str, str]]:
    """Return the settings in which two versions differ: key, left, right."""
    keys = sorted({*left.settings, *right.settings})
    pairs = ((key, left.settings.get(key, "–"), right.settings.get(key, "–")) for key in keys)
    return [(key, one, other) for key, one, other in pairs if one != other]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The pictures that exactly one of two versions gets right, where a run compared these two.

    Args:
        dataset_version: Whose test pictures they are.
        gained: Ids of those that only the right version gets right.
        lost: Ids of those that only the left version gets right.
    """

    dataset_version: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]


def find_moved(left: Side, right: Side) -> Moved | None:
    """Return the pictures that two versions answer differently; None if no run compared the two."""
    if right.champion == left.version:
        return Moved(dataset_version=right.dataset_version, gained=right.gained, lost=right.lost)
    if left.champion == right.version:
        return Moved(dataset_version=left.dataset_version, gained=left.lost, lost=left.gained)
    return None


def changed_confusions(left: Side, right: Side) -> list[tuple[str, str, int, int]]:
    """Return the mistakes whose number differs, the largest difference first.

    Each is the label, what its pictures were taken for, and how many by the left and by the right version.
    """
    sides = (left.confusion, right.confusion)
    pairs = {
        (label, other) for side in sides for label, row in side.items() for other in row if other != label
    }
    rows = [
        (label, other, one, another)
        for label, other in pairs
        if (one := _count(left, label, other)) != (another := _count(right, label, other))
    ]
    return sorted(rows, key=lambda row: (-abs(row[3] - row[2]), row[0], row[1]))


def _count(side: Side, label: str, other: str) -> int:
    return side.confusion.get(label, {}).get(other, 0)
