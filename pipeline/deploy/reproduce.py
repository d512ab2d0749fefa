"""Does a version's work again, from the same input, and says whether the same comes out."""

from __future__ import annotations

from pipeline.deploy.trace import read_lineage
from pipeline.errors import PlatformError
from pipeline.evaluate.evaluation import Evaluation, evaluate_model, read_evaluation
from pipeline.evaluate.predictions import read_predictions
from pipeline.ml_engine.jobs import JobKey, batch_prediction_job, job_id_of
from pipeline.ml_engine.protocol import MLEngine
from pipeline.ml_engine.resources import Job, TrainingInput
from pipeline.storage import Storage
from pipeline.types import JsonDict

DEADLINE_SECONDS = 6 * 3600.0
HEADLINES = ("accuracy", "loss", "macro_f1", "weighted_f1", "brier", "ece", "test_pictures")


def reproduce_version(
    engine: MLEngine,
    storage: Storage,
    workspace: str,
    *,
    model: str,
    version: str,
    attempt: str,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> JsonDict:
    """Train and evaluate with the input of a version's own jobs, and compare; nothing is deployed.

    Args:
        engine: Where the version was made.
        storage: Where its lineage is.
        workspace: The bucket of the classifier.
        model: Name of the model.
        version: The version.
        attempt: What tells this reproduction from others; its jobs are named by it.
        deadline_seconds: The longest that each of the two jobs may take.

    Returns:
        Whether all agrees, the metrics of both, and the largest difference between their outputs.

    Raises:
        PlatformError: if the version, its lineage or its jobs are not there any more.
        JobFailed: if a job fails this time.
    """
    _, uri, lineage = read_lineage(engine, storage, workspace, model, version)
    recorded = read_evaluation(storage, f"{uri}/graft/evaluation.json")
    key = ("reproduce", model, version, attempt)
    trained = _train_again(engine, workspace, lineage["training"]["job"], key, deadline_seconds)
    predicted = _predict_again(engine, workspace, recorded.job, trained, key, deadline_seconds)
    again = evaluate_model(
        storage, dataset_uri=lineage["dataset"]["uri"], classes=recorded.classes, candidate_job=predicted
    )
    first = _get_job(engine, recorded.job)["predictionInput"]["outputPath"]
    difference = _largest_difference(storage, first, predicted["predictionInput"]["outputPath"])
    recorded_metrics, metrics = _headline(recorded), _headline(again)
    differing = sorted(name for name in metrics if metrics[name] != recorded_metrics[name])
    return {
        "model": model,
        "version": version,
        "agrees": not differing and again.candidate.confusion == recorded.candidate.confusion,
        "differing": differing,
        "recorded": recorded_metrics,
        "reproduced": metrics,
        "largest_output_difference": difference,
        "jobs": [trained["jobId"], predicted["jobId"]],
    }


def _headline(evaluation: Evaluation) -> JsonDict:
    metrics = evaluation.candidate
    return {
        name: metrics.test_pictures if name == "test_pictures" else metrics.value_of(name)
        for name in HEADLINES
    }


def _get_job(engine: MLEngine, job_id: str) -> Job:
    job = engine.get_job(job_id)
    if job is None:
        raise PlatformError(f"Job {job_id}, whose input would be used again, is gone.", job_id=job_id)
    return job


def _train_again(engine: MLEngine, workspace: str, job_id: str, key: JobKey, deadline: float) -> Job:
    again = job_id_of(*key, "train")
    training: TrainingInput = {
        **_get_job(engine, job_id)["trainingInput"],
        "jobDir": f"{workspace}/jobs/{again}",
    }
    engine.create_job({"jobId": again, "labels": {"step": "reproduce"}, "trainingInput": training})
    return engine.wait_job(again, deadline_seconds=deadline)


def _predict_again(
    engine: MLEngine,
    workspace: str,
    job_id: str,
    trained: Job,
    key: JobKey,
    deadline: float,
) -> Job:
    again, given = job_id_of(*key, "predict"), _get_job(engine, job_id)["predictionInput"]
    body = batch_prediction_job(
        again,
        input_uris=given["inputPaths"],
        output_path=f"{workspace}/jobs/{again}/predictions",
        runtime_version=given["runtimeVersion"],
        labels={"step": "reproduce"},
        model_uri=f"{trained['trainingInput']['jobDir']}/model",
    )
    engine.create_job(body)
    return engine.wait_job(again, deadline_seconds=deadline)


def _largest_difference(storage: Storage, first: str, second: str) -> float:
    """Return the largest difference of one class's probability for one picture."""
    one, other = (
        {row["key"]: row["outputs"] for row in read_predictions(storage, path)} for path in (first, second)
    )
    return max(
        abs(float(a) - float(b))
        for key, outputs in one.items()
        for a, b in zip(outputs, other[key], strict=True)
    )
