"""Step 4: train on ML Engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.jobs import MLEngineJobOperator, instance_key
from pipeline.config import Classifier
from pipeline.ml_v1 import RUNTIME_VERSION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.ml_engine.resources import Job

TRAINER_MODULE = "pipeline.trainer.task"


class MLEngineTrainClassifierOperator(MLEngineJobOperator):
    """Stage weights and the trainer package, and train a new head in a v1 training job.

    Args:
        dataset: Result of the clean step; it carries the classifier as this run has it.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset",)

    def __init__(self, *, dataset: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset

    def submit(self, context: Context) -> list[Job]:
        """Stage what the job needs and submit it."""
        from pipeline.backbones.table import find_backbone
        from pipeline.backbones.weights import stage_weights
        from pipeline.ml_engine.jobs import training_job
        from pipeline.submission.package import stage_package
        from pipeline.submission.staged_head import stage_head

        classifier = Classifier.from_dict(self.dataset["classifier"])
        storage, workspace, model = self.workspace.storage, self.workspace.uri, classifier.model
        weights = stage_weights(
            find_backbone(model.backbone), model.weights, storage=storage, workspace=workspace
        )
        package_uri = stage_package(storage, workspace)
        args = trainer_args(classifier, self.dataset["pack_index"], weights.uri, workspace)
        start = self._find_start(classifier, weights.uri) if model.warm_start else None
        if start is not None:
            args += ["--warm-start", start]
        if model.head.module:
            args += ["--head-module", stage_head(model.head.module, storage=storage, workspace=workspace).uri]

        def make_body(job_id: str) -> Job:
            return training_job(
                job_id,
                package_uri=package_uri,
                module=TRAINER_MODULE,
                args=args,
                job_dir=f"{workspace}/jobs/{job_id}",
                runtime_version=RUNTIME_VERSION,
                labels={"classifier": classifier.name, "step": "train"},
                max_running_seconds=int(self.wait_seconds),
            )

        self.own(context)
        return [self.submit_once(instance_key(context), make_body)]

    def _find_start(self, classifier: Classifier, weights_uri: str) -> str | None:
        """Return the directory of the model that serves, if its head fits these weights."""
        from pipeline.errors import ObjectNotFound
        from pipeline.ml_engine.protocol import default_version

        engine, name = self.connect(), classifier.name
        champion = default_version(engine.get_model(name))
        version = engine.get_version(name, champion) if champion else None
        if version is None:
            self.log.info("no version serves, so the head begins anew")
            return None
        uri = str(version["deploymentUri"])
        try:
            lineage = self.workspace.storage.read_json(f"{uri}/graft/lineage.json")
        except ObjectNotFound:
            lineage = {}
        if lineage.get("training", {}).get("weights_uri") != weights_uri:
            self.log.warning("version %s has not this run's backbone, so the head begins anew", champion)
            return None
        return uri

    def complete(self, context: Context, jobs: Sequence[Job]) -> dict[str, Any]:
        """Return the model's place, and the work that the job itself counted."""
        job = jobs[0]
        given = job["trainingInput"]
        training = self.workspace.storage.read_json(f"{given['jobDir']}/training.json")
        return {
            "job": job["jobId"],
            "model_uri": f"{given['jobDir']}/model",
            "classes": training["classes"],
            "forwarded": training["work"]["forwarded"],
            "cached": training["work"]["cached"],
            "package_uri": given["packageUris"][0],
            "package": training["package"],
            "weights_uri": given["args"][given["args"].index("--weights") + 1],
            "head_uri": training.get("head_module"),
            "runtime_version": given["runtimeVersion"],
        }


def trainer_args(classifier: Classifier, pack_index: str, weights_uri: str, workspace: str) -> list[str]:
    """Return the command line of the trainer."""
    model = classifier.model
    options = {
        "--pack-index": pack_index,
        "--weights": weights_uri,
        "--backbone": model.backbone,
        "--units": model.head.units,
        "--epochs": model.epochs,
        "--batch-size": model.batch_size,
        "--learning-rate": model.learning_rate,
        "--seed": model.seed,
        "--validation-fraction": model.validation_fraction,
        "--patience": model.early_stopping.patience,
        "--class-weights": model.class_weights,
        "--views": model.augmentation.views,
        "--views-seed": model.augmentation.seed,
        "--reject-below": classifier.serving.reject_below,
        "--workspace": workspace,
    }
    return [text for name, value in options.items() for text in (name, str(value))]
