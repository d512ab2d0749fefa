"""Reads what a batch prediction job wrote and joins it with the test pictures by key, never by position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import EvaluationError, PredictionJoinError
from pipeline.ml_engine.resources import Job
from pipeline.storage import Storage
from pipeline.types import JsonDict

SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model says of one picture.

    Args:
        key: Id of the picture.
        outputs: Probability of each class, in the model's order.
        label: The most probable class by name, as the model itself says it; None if it would rather not say.
    """

    key: str
    outputs: tuple[float, ...]
    label: str | None


def read_test_rows(storage: Storage, dataset_uri: str) -> dict[str, JsonDict]:
    """Return the manifest row of each test picture of a dataset version, by picture id.

    Raises:
        EvaluationError: if the version has no test picture.
    """
    rows = {}
    for line in storage.read_bytes(f"{dataset_uri}/manifest.jsonl").splitlines():
        row = json.loads(line)
        if row["status"] == "kept" and row["split"] == "test":
            rows[row["id"]] = row
    if not rows:
        raise EvaluationError(f"{dataset_uri} has no test picture.", dataset_uri=dataset_uri)
    return rows


def read_test_labels(storage: Storage, dataset_uri: str) -> dict[str, str]:
    """Return the label of each test picture of a dataset version, by picture id.

    Raises:
        EvaluationError: if the version has no test picture.
    """
    return {key: row["label"] for key, row in read_test_rows(storage, dataset_uri).items()}


def check_counts(job: Job, test_pictures: int) -> None:
    """Make sure that a batch prediction job answered for every test picture.

    Raises:
        EvaluationError: with both counts, if it did not.
    """
    output = job.get("predictionOutput", {})
    count, errors = int(output.get("predictionCount", "0")), int(output.get("errorCount", "0"))
    if count != test_pictures or errors:
        raise EvaluationError(
            f"Batch prediction job {job['jobId']} counts {count} predictions and {errors} errors; the "
            f"dataset version has {test_pictures} test pictures."
        )


def read_predictions(storage: Storage, output_path: str) -> list[JsonDict]:
    """Return the rows of a batch prediction's result files.

    Raises:
        EvaluationError: if there is no result file, or a picture was answered with an error.
    """
    uris = storage.list_uris(output_path.rstrip("/") + "/")
    failed = [row for row in _rows(storage, uris, "prediction.errors_stats")]
    if failed:
        raise EvaluationError(
            f"Batch prediction under {output_path} failed for {len(failed)} pictures: {failed[:SHOWN]}",
            output_path=output_path,
        )
    rows = _rows(storage, uris, "prediction.results")
    if not rows:
        raise EvaluationError(f"There is no prediction under {output_path}.", output_path=output_path)
    return rows


def _rows(storage: Storage, uris: Sequence[str], prefix: str) -> list[JsonDict]:
    return [
        json.loads(line)
        for uri in uris
        if uri.rpartition("/")[2].startswith(prefix)
        for line in storage.read_bytes(uri).splitlines()
        if line.strip()
    ]


def join_predictions(rows: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> dict[str, Prediction]:
    """Return exactly one prediction for each key.

    Raises:
        PredictionJoinError: naming the first keys that are missing, doubled or unknown.
    """
    wanted = set(keys)
    joined: dict[str, Prediction] = {}
    doubled, unknown = [], []
    for row in rows:
        key = row.get("key")
        if key not in wanted:
            unknown.append(key)
        elif key in joined:
            doubled.append(key)
        else:
            outputs = tuple(float(value) for value in row["outputs"])
            joined[key] = Prediction(key=key, outputs=outputs, label=row.get("label"))
    missing = sorted(wanted - set(joined))
    problems = [
        f"{len(keys)} {name} ({', '.join(map(str, keys[:SHOWN]))}{', ...' if len(keys) > SHOWN else ''})"
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
