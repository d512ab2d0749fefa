"""The page of one classifier: its versions, what served when, its runs, and two versions side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ml_engine.protocol import resource_id
from pipeline.ml_engine.resources import Version
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.run_status import RunStatus, read_run_status
from pipeline.pages.schedule import Run
from pipeline.types import JsonDict

READY = "READY"
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
    """

    version: str
    state: str
    is_default: bool
    created: str
    accuracy: float | None
    run_id: str | None
    dataset_version: str | None
    decided_by: str | None

    @property
    def can_serve(self) -> bool:
        """Whether traffic can turn to it."""
        return self.state == READY and not self.is_default


def list_versions(
    cache: ArtifactCache, name: str, resources: Iterable[Version], history: Sequence[JsonDict]
) -> list[VersionRow]:
    """Return the versions of a model, newest first.

    What the history does not know of a version is read from the version itself, once.
    """
    promoted = {event["version"]: event for event in history if event["event"] == "promoted"}
    rows = []
    for resource in resources:
        version = resource_id(resource)
        said = promoted.get(version) or _from_lineage(cache, name, version)
        rows.append(
            VersionRow(
                version=version,
                state=str(resource.get("state")),
                is_default=bool(resource.get("isDefault")),
                created=str(resource.get("createTime", "")),
                accuracy=said.get("accuracy"),
                run_id=said.get("run_id"),
                dataset_version=said.get("dataset_version"),
                decided_by=said.get("decided_by"),
            )
        )
    return sorted(rows, key=lambda row: row.created, reverse=True)


def _from_lineage(cache: ArtifactCache, name: str, version: str) -> JsonDict:
    lineage = cache.beside_model(name, version, "lineage.json")
    if lineage is None:
        return {}
    override = lineage["gate"].get("override")
    return {
        "accuracy": lineage["gate"]["metrics"]["accuracy"],
        "run_id": lineage["run_id"],
        "dataset_version": lineage["dataset"]["version"],
        "decided_by": override["by"] if override else "gate",
    }


def list_runs(cache: ArtifactCache, name: str, runs: Iterable[Run]) -> list[tuple[Run, RunStatus]]:
    """Return runs with what came of them."""
    return [(run, read_run_status(cache, name, run)) for run in runs]


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
        settings: What the run was told, flat, by dotted key.
    """

    version: str
    run_id: str
    dataset_version: str
    metrics: Mapping[str, float | None]
    interval: Sequence[float] | None
    test_pictures: int
    recalls: Mapping[str, float | None]
    settings: Mapping[str, str]


def describe_side(cache: ArtifactCache, name: str, version: str) -> Side | None:
    """Return a version for comparison; None where it carries no metadata of Graft's."""
    lineage = cache.beside_model(name, version, "lineage.json")
    evaluation = cache.beside_model(name, version, "evaluation.json")
    if lineage is None or evaluation is None:
        return None
    found = evaluation["candidate"]
    scores = found.get("scores") or {}
    return Side(
        version=version,
        run_id=lineage["run_id"],
        dataset_version=lineage["dataset"]["version"],
        metrics={key: found.get(key, scores.get(key)) for key, _ in METRICS},
        interval=found.get("accuracy_ci95"),
        test_pictures=found["test_pictures"],
        recalls={
            label: row.get(label, 0) / sum(row.values()) if sum(row.values()) else None
            for label, row in found["confusion"].items()
        },
        settings=dict(_flatten(lineage["classifier"])),
    )


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
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
