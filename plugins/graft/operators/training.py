"""Trains a classifier on ML Engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graft.operators.inputs import StepInput, read_step
from graft.operators.jobs import MLEngineJobOperator, instance_key, was_cleared
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.steps import DatasetResult, TrainResult
from pipeline.artifacts.training import TrainingRecord, TrainingSpec
from pipeline.config import Classifier
from pipeline.errors import ConfigError
from pipeline.ml_v1 import RUNTIME_VERSION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.model_record import Lineage
    from pipeline.ml_engine.resources import Job

TRAINER_MODULE = "pipeline.trainer.task"


class MLEngineTrainClassifierOperator(MLEngineJobOperator):
    """Stage weights and the trainer package, and train a new head in a v1 training job.

    Args:
        dataset: Result of the clean step; it carries the classifier as this run has it.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset",)

    def __init__(self, *, dataset: StepInput, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset

    def submit(self, context: Context) -> list[Job]:
        """Stage what the job needs and submit it."""
        from pipeline.ml_engine.jobs import training_job
        from pipeline.submission.backbone import stage_backbone
        from pipeline.submission.package import stage_package
        from pipeline.submission.staged_head import stage_head
        from pipeline.submission.training_spec import build_training_spec

        dataset = read_step(DatasetResult, self.dataset)
        classifier = Classifier.from_dict(dataset.classifier)
        workspace, model = self.workspace, classifier.model
        weights = stage_backbone(workspace, model)
        package_uri = stage_package(workspace)
        head = model.head.module and stage_head(workspace, model.head.module).uri
        start = self._find_start(classifier, weights.uri) if model.warm_start else ""
        spec = build_training_spec(
            classifier,
            pack_index=dataset.pack_index,
            weights=weights.uri,
            workspace=workspace.uri,
            head_module=head,
            warm_start=start,
        )

        def make_body(job_id: str) -> Job:
            return training_job(
                job_id,
                package_uri=package_uri,
                module=TRAINER_MODULE,
                args=spec.to_args(),
                job_dir=workspace.job(job_id).uri,
                runtime_version=RUNTIME_VERSION,
                labels={"classifier": classifier.name, "step": "train"},
                max_running_seconds=int(self.wait_seconds),
            )

        self.set_job_labels(context)
        redo = was_cleared(context, self)
        return [self.submit_once(instance_key(context), make_body, redo=redo)]

    def _find_start(self, classifier: Classifier, weights_uri: str) -> str:
        """Return the URI of the model that serves; empty if its head does not fit these weights."""
        from pipeline.artifacts.folders import ModelDirectory
        from pipeline.artifacts.model_record import read_lineage
        from pipeline.ml_engine.protocol import default_version

        engine, name = self.connect(), classifier.name
        champion = default_version(engine.get_model(name))
        version = engine.get_version(name, champion) if champion else None
        if version is None:
            self.log.info("no version serves, so the head begins anew")
            return ""
        model = ModelDirectory(self.workspace.storage, str(version["deploymentUri"]))
        lineage = read_lineage(model)
        if lineage is None or lineage.training.weights_uri != weights_uri:
            self.log.warning("version %s has not this run's backbone, so the head begins anew", champion)
            return ""
        if not _has_dense_head(lineage):
            self.log.warning("version %s has a head of another type, so the head begins anew", champion)
            return ""
        return model.uri

    def complete(self, context: Context, jobs: Sequence[Job]) -> TrainResult:
        """Return the model's place, and the work that the job itself counted."""
        job = jobs[0]
        training_input = job["trainingInput"]
        directory = JobDirectory(self.workspace.storage, training_input["jobDir"])
        spec = TrainingSpec.from_args([*training_input["args"], "--job-dir", directory.uri])
        record = TrainingRecord.read(directory)
        return TrainResult(
            job=job["jobId"],
            model_uri=directory.model.uri,
            classes=list(record.classes),
            forwarded=record.work.forwarded,
            cached=record.work.cached,
            package_uri=training_input["packageUris"][0],
            package=asdict(record.package),
            weights_uri=spec.weights,
            head_uri=record.head_module,
            runtime_version=training_input["runtimeVersion"],
        )


def _has_dense_head(lineage: Lineage) -> bool:
    if lineage.training.head_uri:
        return False
    try:
        return Classifier.from_dict(lineage.classifier).model.head.kind == "dense"
    except ConfigError:  # an older release's, which had no other head without a file
        return True
