"""Reads what a batch prediction job wrote and joins it with the test pictures by key, never by position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.errors import EvaluationError, PredictionJoinError
from pipeline.ml_engine.resources import Job
from pipeline.storage import Storage
from pipeline.types import JsonDict

SHOWN = 3
TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A model's answer for one picture.

    Args:
        key: Id of the picture.
        outputs: Probability of each class, in the model's order.
        label: The most probable class by name, as the model itself names it; None if it rejects the picture.
    """

    key: str
    outputs: tuple[float, ...]
    label: str | None

    @classmethod
    def from_dict(cls, row: JsonDict) -> Prediction:
        """Read a row of a result file; what else it holds is ignored."""
        outputs = tuple(float(value) for value in row["outputs"])
        return cls(key=str(row.get("key")), outputs=outputs, label=row.get("label"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionJob:
    """A finished batch prediction job of ML Engine.

    Args:
        job: Its id.
        output_path: The folder of its result files.
        model_uri: The model directory that answered; None where a version did.
        predictions: How many instances were answered.
        errors: How many were not.
        seconds: From start to end; None if unknown.
    """

    job: str
    output_path: str
    model_uri: str | None = None
    predictions: int = 0
    errors: int = 0
    seconds: float | None = None

    @classmethod
    def of(cls, job: Job) -> PredictionJob:
        """Read a v1 job."""
        prediction_input, output = job["predictionInput"], job.get("predictionOutput", {})
        times = [datetime.fromisoformat(time) for time in (job.get("startTime"), job.get("endTime")) if time]
        return cls(
            job=job["jobId"],
            output_path=prediction_input["outputPath"],
            model_uri=prediction_input.get("uri"),
            predictions=int(output.get("predictionCount", "0")),
            errors=int(output.get("errorCount", "0")),
            seconds=(times[1] - times[0]).total_seconds() if len(times) == 2 else None,
        )


def read_test_rows(dataset: DatasetVersionFolder) -> dict[str, ManifestRow]:
    """Return the manifest row of each test picture of a dataset version, by picture id.

    Raises:
        EvaluationError: if the version has no test picture.
    """
    rows = {
        row.id: row
        for row in Manifest(dataset).rows()
        if row.is_kept and row.split == TEST and row.id is not None
    }
    if not rows:
        raise EvaluationError(f"{dataset.uri} has no test picture.", dataset_uri=dataset.uri)
    return rows


def read_test_labels(dataset: DatasetVersionFolder) -> dict[str, str]:
    """Return the label of each test picture of a dataset version, by picture id.

    Raises:
        EvaluationError: if the version has no test picture.
    """
    return {key: row.label for key, row in read_test_rows(dataset).items()}


def check_counts(job: PredictionJob, test_pictures: int) -> None:
    """Make sure that a batch prediction job answered for every test picture.

    Raises:
        EvaluationError: with both counts, if it did not.
    """
    if job.predictions != test_pictures or job.errors:
        raise EvaluationError(
            f"Batch prediction job {job.job} counts {job.predictions} predictions and {job.errors} errors; "
            f"the dataset version has {test_pictures} test pictures."
        )


def read_predictions(storage: Storage, output_path: str) -> list[Prediction]:
    """Return the answers in a batch prediction's result files.

    Raises:
        EvaluationError: if there is no result file, or a picture was answered with an error.
    """
    failed = [json.loads(line) for line in _read_lines(storage, output_path, "prediction.errors_stats")]
    if failed:
        raise EvaluationError(
            f"Batch prediction under {output_path} failed for {len(failed)} pictures: {failed[:SHOWN]}",
            output_path=output_path,
        )
    lines = _read_lines(storage, output_path, "prediction.results")
    predictions = [Prediction.from_dict(json.loads(line)) for line in lines]
    if not predictions:
        raise EvaluationError(f"There is no prediction under {output_path}.", output_path=output_path)
    return predictions


def _read_lines(storage: Storage, output_path: str, prefix: str) -> Iterator[bytes]:
    for uri in storage.list_uris(output_path.rstrip("/") + "/"):
        if uri.rpartition("/")[2].startswith(prefix):
            yield from filter(bytes.strip, storage.read_bytes(uri).splitlines())


def join_predictions(predictions: Iterable[Prediction], keys: Iterable[str]) -> dict[str, Prediction]:
    """Return exactly one prediction for each key.

    Raises:
        PredictionJoinError: naming the first keys that are missing, doubled or unknown.
    """
    wanted = set(keys)
    joined: dict[str, Prediction] = {}
    doubled, unknown = [], []
    for prediction in predictions:
        if prediction.key not in wanted:
            unknown.append(prediction.key)
        elif prediction.key in joined:
            doubled.append(prediction.key)
        else:
            joined[prediction.key] = prediction
    missing = sorted(wanted - set(joined))
    problems = [
        f"{len(keys)} {name} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
        for name, keys in (("missing", missing), ("doubled", doubled), ("unknown", unknown))
        if keys
    ]
    if problems:
        raise PredictionJoinError(
            f"Predictions do not join with the {len(wanted)} test pictures by key: {'; '.join(problems)}.",
            missing=missing,
            doubled=doubled,
            unknown=unknown,
        )
    return joined
