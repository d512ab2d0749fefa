"""Trains and evaluates a version again from the same input, and compares the results."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder, JobDirectory
from pipeline.artifacts.metrics import Number
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.trace import find_version
from pipeline.errors import PlatformError
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.predictions import PredictionJob, read_predictions
from pipeline.ml_engine.jobs import JobKey, batch_prediction_job, job_id_of
from pipeline.ml_engine.protocol import MLEngine
from pipeline.ml_engine.resources import TrainingInput
from pipeline.storage import Storage

DEADLINE_SECONDS = 6 * 3600.0
HEADLINES = ("accuracy", "loss", "macro_f1", "weighted_f1", "brier", "ece")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction(Record):
    """A version trained and evaluated again.

    Args:
        model: The model.
        version: The version.
        agrees: Whether metrics and confusion are exactly the same.
        differing: Metrics that differ.
        recorded: The version's metrics.
        reproduced: The metrics of this time.
        largest_output_difference: Of one class's probability for one picture.
        jobs: The training and the batch prediction job of this time.
    """

    model: str
    version: str
    agrees: bool
    differing: tuple[str, ...]
    recorded: dict[str, Number | None]
    reproduced: dict[str, Number | None]
    largest_output_difference: float
    jobs: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rerun:
    """How the jobs of a version are run again.

    Args:
        workspace: Where they write.
        engine: Where they run.
        key: The reproduction; names the jobs.
        deadline_seconds: The longest that each may take.
    """

    workspace: Workspace
    engine: MLEngine
    key: JobKey
    deadline_seconds: float

    def train(self, job_id: str) -> JobDirectory:
        """Train with the input of a job again; return the directory of the new job."""
        again, job = job_id_of(*self.key, "train"), self.engine.get_job(job_id)
        if job is None:
            raise _gone(job_id)
        directory = self.workspace.job(again)
        training: TrainingInput = {**job["trainingInput"], "jobDir": directory.uri}
        self.engine.create_job({"jobId": again, "labels": {"step": "reproduce"}, "trainingInput": training})
        self.engine.wait_job(again, deadline_seconds=self.deadline_seconds)
        return directory

    def predict(self, job_id: str, model_uri: str) -> PredictionJob:
        """Ask another model about the pictures of a batch prediction job."""
        again, job = job_id_of(*self.key, "predict"), self.engine.get_job(job_id)
        if job is None:
            raise _gone(job_id)
        prediction_input = job["predictionInput"]
        body = batch_prediction_job(
            again,
            input_uris=prediction_input["inputPaths"],
            output_path=self.workspace.job(again).predictions,
            runtime_version=prediction_input["runtimeVersion"],
            labels={"step": "reproduce"},
            model_uri=model_uri,
        )
        self.engine.create_job(body)
        return PredictionJob.of(self.engine.wait_job(again, deadline_seconds=self.deadline_seconds))


def _gone(job_id: str) -> PlatformError:
    return PlatformError(f"Job {job_id}, whose input would be used again, is gone.", job_id=job_id)


def reproduce_version(
    workspace: Workspace,
    engine: MLEngine,
    *,
    model: str,
    version: str,
    attempt: str,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Reproduction:
    """Train and evaluate with the input of a version's own jobs, and compare; nothing is deployed.

    Args:
        workspace: Where its lineage is.
        engine: Where the version was made.
        model: Name of the model.
        version: The version.
        attempt: What tells this reproduction from others; its jobs are named by it.
        deadline_seconds: The longest that each of the two jobs may take.

    Raises:
        PlatformError: if the version, its lineage or its jobs are not there any more.
        JobFailed: if a job fails this time.
    """
    _, directory, lineage = find_version(workspace, engine, model, version)
    recorded = Evaluation.read(workspace.storage, directory.evaluation)
    key = ("reproduce", model, version, attempt)
    rerun = _Rerun(workspace=workspace, engine=engine, key=key, deadline_seconds=deadline_seconds)
    trained = rerun.train(lineage.training.job)
    predicted = rerun.predict(recorded.job, trained.model.uri)
    first = engine.get_job(recorded.job)
    if first is None:
        raise _gone(recorded.job)
    dataset = DatasetVersionFolder(workspace.storage, lineage.dataset.uri)
    again = evaluate_model(dataset, classes=recorded.classes, candidate_job=predicted)
    first_path = first["predictionInput"]["outputPath"]
    difference = _largest_difference(workspace.storage, first_path, predicted.output_path)
    recorded_metrics, metrics = _headline(recorded), _headline(again)
    differing = sorted(name for name in metrics if metrics[name] != recorded_metrics[name])
    return Reproduction(
        model=model,
        version=version,
        agrees=not differing and again.candidate.confusion == recorded.candidate.confusion,
        differing=tuple(differing),
        recorded=recorded_metrics,
        reproduced=metrics,
        largest_output_difference=difference,
        jobs=(trained.uri.rpartition("/")[2], predicted.job),
    )


def _headline(evaluation: Evaluation) -> dict[str, Number | None]:
    metrics = evaluation.candidate
    return {
        **{name: metrics.value_of(name) for name in HEADLINES},
        "test_pictures": metrics.test_pictures,
    }


def _largest_difference(storage: Storage, first: str, second: str) -> float:
    """Return the largest difference of one class's probability for one picture."""
    one, other = (
        {prediction.key: prediction.outputs for prediction in read_predictions(storage, path)}
        for path in (first, second)
    )
    return max(abs(a - b) for key, outputs in one.items() for a, b in zip(outputs, other[key], strict=True))
