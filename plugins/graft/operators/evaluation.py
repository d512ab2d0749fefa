"""Evaluates the candidate and the champion as they are served."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from graft.operators.inputs import StepInput, read_step
from graft.operators.jobs import MLEngineJobOperator, instance_key, was_cleared
from pipeline.artifacts.pack import read_pack_index
from pipeline.artifacts.steps import DatasetResult, EvaluateResult, TrainResult
from pipeline.config import Classifier
from pipeline.errors import LabelMapMismatch
from pipeline.ml_v1 import RUNTIME_VERSION

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.artifacts.folders import ModelDirectory
    from pipeline.evaluate.champion import Champion
    from pipeline.ml_engine.resources import Job


class MLEngineEvaluateModelOperator(MLEngineJobOperator):
    """Let candidate and champion predict the same encoded test pictures in batch prediction jobs.

    The champion is the model's default version at this moment. Its job id is made from the version and the
    dataset version, so it predicts the same pictures once and later runs adopt the job.

    Args:
        dataset: Result of the clean step.
        training: Result of the train step.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "training")

    def __init__(self, *, dataset: StepInput, training: StepInput, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.training = training

    @property
    def _dataset(self) -> DatasetResult:
        return read_step(DatasetResult, self.dataset)

    def submit(self, context: Context) -> list[Job]:
        """Submit the candidate's job, and the champion's where there is one."""
        from pipeline.ml_engine.protocol import default_version

        name, inputs = self._dataset.dataset, self._read_inputs()
        model_uri = read_step(TrainResult, self.training).model_uri
        self.set_job_labels(context)
        candidate = self.submit_once(
            (*instance_key(context), model_uri),
            lambda job_id: self._make_job(job_id, inputs, model_uri=model_uri, signature_name="explained"),
            redo=was_cleared(context, self),
        )
        champion = default_version(self.connect().get_model(name))
        if champion is None or self._labels_of(champion) is None:  # nothing could join its answers
            return [candidate]
        self.set_job_labels(context, shared=True)
        return [candidate, self._submit_champion(champion, inputs)]

    def _read_inputs(self) -> list[str]:
        """Return the files of test pictures.

        Raises:
            LabelMapMismatch: if the model was trained on other classes.
        """
        index = read_pack_index(self.workspace.storage, self._dataset.pack_index)
        classes = read_step(TrainResult, self.training).classes
        if list(index.classes) != list(classes):
            raise LabelMapMismatch(f"The model was trained on {classes}, the dataset has {index.classes}.")
        return [tests.uri for tests in index.tests]

    def _make_job(self, job_id: str, inputs: Sequence[str], **model: str) -> Job:
        from pipeline.ml_engine.jobs import batch_prediction_job

        return batch_prediction_job(
            job_id,
            input_uris=inputs,
            output_path=self.workspace.job(job_id).predictions,
            runtime_version=RUNTIME_VERSION,
            labels={"classifier": self._dataset.dataset, "step": "evaluate"},
            **model,
        )

    def _submit_champion(self, champion: str, inputs: Sequence[str]) -> Job:
        engine, dataset = self.connect(), self._dataset
        resource = engine.get_version(dataset.dataset, champion)
        created = resource.get("createTime") if resource else None
        full_name = f"projects/{engine.project}/models/{dataset.dataset}/versions/{champion}"
        return self.submit_once(
            ("champion", dataset.dataset, champion, created, dataset.version),
            lambda job_id: self._make_job(job_id, inputs, version_name=full_name),
        )

    def _model_directories(self, version: str) -> list[ModelDirectory]:
        from pipeline.deploy.version import model_directories

        return model_directories(self.workspace, self.connect(), self._dataset.dataset, version)

    def _labels_of(self, version: str) -> tuple[str, ...] | None:
        from pipeline.evaluate.champion import find_labels

        return find_labels(self._model_directories(version))

    def _find_champion(self, job: Job | None) -> Champion | None:
        """Return the version that the job asked, or the one that serves and cannot be asked.

        A default that came after `submit` is neither: the promotion will find it and end `superseded`.
        """
        from pipeline.evaluate.champion import Champion, read_champion
        from pipeline.evaluate.predictions import PredictionJob
        from pipeline.ml_engine.protocol import default_version

        if job is not None:
            version = job["predictionInput"]["versionName"].rpartition("/")[2]
            return read_champion(version, PredictionJob.of(job), self._model_directories(version))
        serving = default_version(self.connect().get_model(self._dataset.dataset))
        if serving is None or self._labels_of(serving) is not None:
            return None
        return Champion(version=serving)

    def complete(self, context: Context, jobs: Sequence[Job]) -> EvaluateResult:
        """Join, measure, compare, and write `evaluation.json` beside the candidate's predictions."""
        from pipeline.artifacts.folders import DatasetVersionFolder
        from pipeline.evaluate.evaluation import evaluate_model
        from pipeline.evaluate.predictions import PredictionJob, check_counts
        from pipeline.evaluate.ratchet import find_better_versions
        from pipeline.evaluate.report import evaluation_report

        candidate, champion = PredictionJob.of(jobs[0]), (jobs[1] if len(jobs) > 1 else None)
        dataset, storage = self._dataset, self.workspace.storage
        check_counts(candidate, dataset.test_pictures)
        serving, better = self._find_champion(champion), []
        if serving is not None:
            now = datetime.now(UTC)
            better = find_better_versions(self.workspace, dataset.dataset, champion=serving.version, now=now)
        evaluation = evaluate_model(
            DatasetVersionFolder(storage, dataset.uri),
            classes=read_step(TrainResult, self.training).classes,
            candidate_job=candidate,
            champion=serving,
            better=better,
            slices=[rule.by for rule in Classifier.from_dict(dataset.classifier).gate.slices],
        )
        self.log.info("%s", evaluation_report(evaluation))
        uri = self.workspace.job(evaluation.job).evaluation
        evaluation.write(storage, uri)
        return EvaluateResult.of(evaluation, uri=uri, predictions=candidate.output_path)
