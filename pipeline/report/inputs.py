"""What a report is made of, read from where the steps of a run left it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.artifacts.dataset import DatasetInfo, read_info
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory, ModelDirectory
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.steps import DatasetResult, TrainResult
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.tuning import Tuning
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.errors import ObjectNotFound
from pipeline.explain.activation import ActivationMap
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """The candidate's answer for one test picture, as batch prediction wrote it.

    Args:
        key: Id of the picture.
        outputs: Probability of each class.
        novelty: How unlike the training pictures it is; None where the model does not tell.
        features: The pooled features; None where the model does not give them.
        activation: The class-activation map; None likewise.
    """

    key: str
    outputs: tuple[float, ...]
    novelty: float | None = None
    features: tuple[float, ...] | None = None
    activation: ActivationMap | None = None

    @classmethod
    def from_dict(cls, value: JsonDict) -> PredictionRow:
        """Read a line of a result file; what else it holds is ignored."""
        features, novelty = value.get("features"), value.get("novelty")
        return cls(
            key=value["key"],
            outputs=tuple(map(float, value["outputs"])),
            novelty=None if novelty is None else float(novelty),
            features=None if features is None else tuple(features),
            activation=value.get("activation"),
        )


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Everything that a report shows; what is absent is not shown.

    Args:
        run_id: The run.
        classifier: The classifier as the run had it.
        dataset: Result of the clean step.
        info: Its dataset version as a whole.
        rows: The kept pictures of the version, by id.
        training: Result of the train step.
        record: What its job recorded.
        tuning: The study that found the parameters; None without one.
        evaluation: The whole evaluation.
        decision: What the gate decided.
        predictions: The candidate's answers, by picture id.
    """

    run_id: str
    classifier: Classifier
    dataset: DatasetResult
    info: DatasetInfo | None
    rows: Mapping[str, ManifestRow]
    training: TrainResult
    record: TrainingRecord | None
    tuning: Tuning | None
    evaluation: Evaluation
    decision: GateDecision
    predictions: Mapping[str, PredictionRow]

    @cached_property
    def training_rows(self) -> dict[str, ManifestRow]:
        """The training pictures, by id."""
        return {id: row for id, row in self.rows.items() if row.split == "train"}


def read_inputs(
    workspace: Workspace,
    *,
    run_id: str,
    classifier: Classifier,
    dataset: DatasetResult,
    training: TrainResult,
    evaluation: Evaluation,
    decision: GateDecision,
) -> ReportInputs:
    """Read what the steps of a run left in the bucket; see `ReportInputs`."""
    storage = workspace.storage
    folder = DatasetVersionFolder(storage, dataset.uri)
    rows = Manifest(folder).rows()
    predictions = _read_predictions(workspace.job(evaluation.job))
    return ReportInputs(
        run_id=run_id,
        classifier=classifier,
        dataset=dataset,
        info=_read_info(folder),
        rows={row.id: row for row in rows if row.split is not None and row.id is not None},
        training=training,
        record=_read_record(ModelDirectory(storage, training.model_uri).job),
        tuning=Tuning.find(storage, training.tuning.uri) if training.tuning else None,
        evaluation=evaluation,
        decision=decision,
        predictions={row.key: row for row in predictions},
    )


def _read_info(folder: DatasetVersionFolder) -> DatasetInfo | None:
    try:
        return read_info(folder)
    except ObjectNotFound:
        return None


def _read_record(job: JobDirectory) -> TrainingRecord | None:
    try:
        return TrainingRecord.read(job)
    except ObjectNotFound:
        return None


def _read_predictions(job: JobDirectory) -> Iterator[PredictionRow]:
    for uri in job.storage.list_uris(f"{job.predictions}/"):
        if uri.rpartition("/")[2].startswith("prediction.results"):
            for line in job.storage.read_bytes(uri).splitlines():
                yield PredictionRow.from_dict(json.loads(line))
