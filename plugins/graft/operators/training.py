"""Trains a classifier on ML Engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from graft.operators.inputs import StepInput, read_step
from graft.operators.jobs import MLEngineJobOperator, instance_key, was_cleared
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.steps import DatasetResult, TrainResult, TuneResult
from pipeline.config import Classifier, with_params
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
        tuning: Result of the tune step, whose parameters go before those of the classifier.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "tuning")

    def __init__(self, *, dataset: StepInput, tuning: StepInput | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.tuning = tuning

    def submit(self, context: Context) -> list[Job]:
        """Stage what the job needs and submit it."""
        from pipeline.ml_engine.jobs import training_job
        from pipeline.submission.finetuning import check_finetuning
        from pipeline.submission.staged_training import stage_training

        dataset, classifier = read_step(DatasetResult, self.dataset), self._classifier()
        staged = stage_training(self.workspace, classifier, pack_index=dataset.pack_index)
        spec = staged.spec
        if classifier.model.warm_start:
            spec = replace(spec, warm_start=self._find_start(classifier, spec.weights))
        check_finetuning(self.workspace, spec)

        def make_body(job_id: str) -> Job:
            return training_job(
                job_id,
                package_uri=staged.package_uri,
                module=TRAINER_MODULE,
                args=spec.to_args(),
                job_dir=self.workspace.job(job_id).uri,
                runtime_version=RUNTIME_VERSION,
                labels={"classifier": classifier.name, "step": "train"},
                max_running_seconds=int(self.wait_seconds),
            )

        self.set_job_labels(context)
        redo = was_cleared(context, self)
        return [self.submit_once(instance_key(context), make_body, redo=redo)]

    def _classifier(self) -> Classifier:
        """Return the classifier with the parameters that a study has found."""
        classifier = Classifier.from_dict(read_step(DatasetResult, self.dataset).classifier)
        tuning = self._tuning()
        return with_params(classifier, tuning.tuning.parameters) if tuning else classifier

    def _tuning(self) -> TuneResult | None:
        return None if self.tuning is None else read_step(TuneResult, self.tuning)

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
        from pipeline.artifacts.training import TrainingRecord, TrainingSpec

        job = jobs[0]
        training_input = job["trainingInput"]
        directory = JobDirectory(self.workspace.storage, training_input["jobDir"])
        spec = TrainingSpec.from_args([*training_input["args"], "--job-dir", directory.uri])
        record, tuned = TrainingRecord.read(directory), self._tuning()
        num_tuning = tuned.forwarded if tuned else 0  # by trials of this run: the cache has them since
        return TrainResult(
            job=job["jobId"],
            model_uri=directory.model.uri,
            classes=list(record.classes),
            forwarded=record.work.forwarded + num_tuning,
            cached=max(0, record.work.cached - num_tuning),
            package_uri=training_input["packageUris"][0],
            package=asdict(record.package),
            weights_uri=record.finetune.weights if record.finetune else spec.weights,
            head_uri=record.head_module,
            runtime_version=training_input["runtimeVersion"],
            tuning=tuned.tuning if tuned else None,
        )


def _has_dense_head(lineage: Lineage) -> bool:
    if lineage.training.head_uri:
        return False
    try:
        return Classifier.from_dict(lineage.classifier).model.head.kind == "dense"
    except ConfigError:  # an older release's, which had no other head without a file
        return True
