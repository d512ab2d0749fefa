"""From a version back to everything that it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from pipeline.artifacts.folders import DatasetVersionFolder, ModelDirectory
from pipeline.artifacts.gate import Override, Rule
from pipeline.artifacts.history import HistoryEvent, read_history
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.model_record import (
    Approval,
    DatasetReference,
    Lineage,
    Requirements,
    TuningReference,
    read_lineage,
)
from pipeline.artifacts.record import Record
from pipeline.artifacts.run_summary import EvaluationSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.version import model_directories
from pipeline.errors import PlatformError
from pipeline.evaluate.slices import slice_value
from pipeline.ml_engine.protocol import MLEngine, default_version
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedGate(Record):
    """The gate's decision on a version, and who else decided; `champion` served when it was evaluated."""

    accepted: bool
    decided_by: str
    override: Override | None
    approval: Approval | None
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    note: str
    champion: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedDataset(DatasetReference):
    """A dataset version, and how many kept pictures came from where, under which licence."""

    manifest: str
    splits: dict[str, int]
    sources: dict[str, int]
    licenses: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedObject(Record):
    """An object that is named by its digest."""

    uri: str
    sha256: str

    @classmethod
    def at(cls, uri: str) -> TracedObject:
        """Describe the object of a URI."""
        return cls(uri=uri, sha256=uri.rstrip("/").rpartition("/")[2].partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedJob(Record):
    """A training job, its command line (None where the job is gone), and the study before it, if any."""

    job: str
    args: tuple[str, ...] | None
    tuning: TuningReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTrace(Record):
    """What `graft lineage` shows of a version."""

    model: str
    version: str
    is_default: bool
    model_uri: str
    run_id: str
    gate: TracedGate
    evaluation: EvaluationSummary
    dataset: TracedDataset
    training: TracedJob
    weights: TracedObject
    package: TracedObject
    head: TracedObject | None
    runtime_version: str | None
    requirements: Requirements | None
    parameters: dict[str, JsonValue]
    history: tuple[HistoryEvent, ...]

    def to_dict(self) -> JsonDict:
        """Return plain JSON values, the events with the keys that they have in the history."""
        return {**Record.to_dict(self), "history": [event.to_dict() for event in self.history]}


def find_version(
    workspace: Workspace, engine: MLEngine, model: str, version: str | None = None
) -> tuple[str, ModelDirectory, Lineage]:
    """Return a version, its model directory and its lineage; the default version unless one is named.

    Raises:
        PlatformError: if there is no such version, or it carries no lineage.
    """
    name = version or default_version(engine.get_model(model))
    if name is None or engine.get_version(model, name) is None:
        wanted = f"version {version}" if version else "version that serves"
        raise PlatformError(f"The model {model!r} has no {wanted}. `graft versions {model}` lists them.")
    for directory in model_directories(workspace, engine, model, name):
        lineage = read_lineage(directory)
        if lineage is not None:
            return name, directory, lineage
    raise PlatformError(f"Version {name} of {model} carries no lineage: it was not deployed by Graft.")


def trace_version(
    workspace: Workspace, engine: MLEngine, model: str, version: str | None = None
) -> VersionTrace:
    """Return where a version comes from: run, gate and who decided, pictures, weights, code, parameters.

    Raises:
        PlatformError: if there is no such version, or it carries no lineage.
    """
    name, directory, lineage = find_version(workspace, engine, model, version)
    training, job = lineage.training, engine.get_job(lineage.training.job)
    args = tuple(job["trainingInput"].get("args", ())) if job else None
    return VersionTrace(
        model=model,
        version=name,
        is_default=default_version(engine.get_model(model)) == name,
        model_uri=directory.uri,
        run_id=lineage.run_id,
        gate=_trace_gate(lineage),
        evaluation=EvaluationSummary.of(lineage.gate.metrics, job=lineage.evaluation_job),
        dataset=_trace_dataset(workspace, lineage.dataset),
        training=TracedJob(job=training.job, args=args, tuning=training.tuning),
        weights=TracedObject.at(training.weights_uri),
        package=TracedObject.at(training.package_uri),
        head=TracedObject.at(training.head_uri) if training.head_uri else None,
        runtime_version=training.runtime_version,
        requirements=lineage.requirements,
        parameters=lineage.classifier,
        history=tuple(event for event in read_history(workspace, model) if event.version == name),
    )


def _trace_gate(lineage: Lineage) -> TracedGate:
    gate = lineage.gate
    return TracedGate(
        accepted=gate.accepted,
        decided_by=lineage.decided_by,
        override=gate.override,
        approval=lineage.approval,
        reasons=gate.reasons,
        rules=gate.rules,
        note=gate.note,
        champion=lineage.champion,
    )


def _trace_dataset(workspace: Workspace, dataset: DatasetReference) -> TracedDataset:
    """Count how many kept pictures of a dataset version came from where, and under which licence."""
    folder = DatasetVersionFolder(workspace.storage, dataset.uri)
    rows = [row for row in Manifest(folder).rows(("status", "split", "source_url", "license")) if row.is_kept]
    return TracedDataset(
        **asdict(dataset),
        manifest=folder.manifest,
        splits=_count(str(row.split) for row in rows),
        sources=_count(slice_value(row, "source") for row in rows),
        licenses=_count(row.provenance.license or "not stated" for row in rows),
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
