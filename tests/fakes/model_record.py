"""Lineages and run summaries made by hand."""

from __future__ import annotations

from typing import Any

from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.model_record import (
    DatasetReference,
    Lineage,
    TrainingReference,
    TuningReference,
)
from pipeline.artifacts.run_summary import (
    DatasetSummary,
    EvaluationSummary,
    GateSummary,
    Outcome,
    RunSummary,
    WorkSummary,
)
from pipeline.config import Classifier
from tests.fakes.evaluation import metrics

CLASSIFIER = Classifier.from_dict({"name": "m", "dataset": {"source": {"type": "sample"}}})


def decision(accuracy: float = 0.9) -> GateDecision:
    return GateDecision(
        accepted=True,
        reasons=(),
        metrics=metrics(accuracy),
        thresholds={},
        baseline=None,
        note="first version",
    )


def lineage(
    *,
    classifier: Classifier = CLASSIFIER,
    run_id: str = "run 1",
    dataset_version: str = "d_1",
    dataset_uri: str = "",
    training_job: str = "train_1",
    evaluation_job: str = "predict_1",
    head_uri: str | None = None,
    model_uri: str = "",
    weights_uri: str = "gs://graft/weights/abc",
    classes: tuple[str, ...] = ("cat", "dog"),
    gate: GateDecision | None = None,
) -> Lineage:
    name = classifier.name
    return Lineage(
        classifier=classifier.to_dict(),
        run_id=run_id,
        dataset=DatasetReference(
            dataset=name,
            version=dataset_version,
            uri=dataset_uri or f"gs://graft/datasets/{name}/{dataset_version}",
            classes={"cat": 1, "dog": 2},
        ),
        training=TrainingReference(
            job=training_job,
            weights_uri=weights_uri,
            package_uri="gs://graft/packages/def.tar.gz",
            model_uri=model_uri or f"gs://graft/jobs/{training_job}/model",
            classes=classes,
            head_uri=head_uri,
            runtime_version="2.21",
        ),
        evaluation_job=evaluation_job,
        champion=None,
        gate=gate or decision(),
    )


def tuning_reference(job: str = "tune_1") -> TuningReference:
    return TuningReference(
        job=job,
        uri=f"gs://graft/jobs/{job}/tuning.json",
        goal="loss",
        seed=0,
        trials=9,
        value=0.123456,
        parameters={"model.learning_rate": 0.00123456, "model.head.units": 64},
    )


def run_summary(**changes: Any) -> RunSummary:
    """How a run ended that deployed `v_1`, unless told otherwise."""
    values: dict[str, Any] = {
        "classifier": "m",
        "run_id": "manual__1",
        "state": Outcome.SUCCESS,
        "dataset": DatasetSummary(version="d_1", pictures=3, classes={"cat": 1, "dog": 2}),
        "work": WorkSummary(downloaded=3, decoded=3, forwarded=3, cached=0),
        "evaluation": EvaluationSummary(
            accuracy=0.95, accuracy_ci95=(0.9, 0.99), loss=0.1, test_pictures=40, job="predict_1"
        ),
        "gate": GateSummary(accepted=True, reasons=()),
        "version": "v_1",
    }
    return RunSummary(**{**values, **changes})
