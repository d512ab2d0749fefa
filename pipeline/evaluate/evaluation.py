"""The evaluation of one run: the candidate and, where there is one, the champion, on the same pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import LabelMapMismatch
from pipeline.evaluate.metrics import Metrics, compute_metrics
from pipeline.evaluate.predictions import (
    check_counts,
    join_predictions,
    read_predictions,
    read_test_labels,
)
from pipeline.storage import Storage
from pipeline.types import JsonDict

log = logging.getLogger(__name__)

FIRST_VERSION = "first version: there is no champion to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` says.

    Args:
        job: Batch prediction job of the candidate.
        classes: Label of output 0, of output 1, ...
        candidate: The candidate's metrics.
        champion_version: The default version when the run evaluated, if there was one.
        champion_job: Its batch prediction job.
        champion: Its metrics, None when it cannot be compared.
        note: What the baseline is, or why there is none.
    """

    job: str
    classes: tuple[str, ...]
    candidate: Metrics
    champion_version: str | None = None
    champion_job: str | None = None
    champion: Metrics | None = None
    note: str = FIRST_VERSION

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {
            "job": self.job,
            "classes": list(self.classes),
            "candidate": self.candidate.to_dict(),
            "champion_version": self.champion_version,
            "champion_job": self.champion_job,
            "champion": self.champion.to_dict() if self.champion else None,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Read what `to_dict` wrote, further keys ignored."""
        champion = value["champion"]
        return cls(
            job=value["job"],
            classes=tuple(value["classes"]),
            candidate=Metrics.from_dict(value["candidate"]),
            champion_version=value["champion_version"],
            champion_job=value["champion_job"],
            champion=Metrics.from_dict(champion) if champion else None,
            note=value["note"],
        )


def evaluate_job(
    storage: Storage, job: JsonDict, labels: Mapping[str, str], classes: Sequence[str]
) -> Metrics:
    """Return the metrics of a finished batch prediction job.

    Raises:
        EvaluationError: if its predictions are not exactly one for each test picture.
        LabelMapMismatch: if its model knows other classes.
    """
    rows = read_predictions(storage, job["predictionInput"]["outputPath"])
    check_counts(job, len(labels))
    return compute_metrics(join_predictions(rows, labels), labels, classes)


def evaluate_model(
    storage: Storage,
    *,
    dataset_uri: str,
    classes: Sequence[str],
    candidate_job: JsonDict,
    champion_version: str | None = None,
    champion_job: JsonDict | None = None,
) -> Evaluation:
    """Evaluate a candidate and its champion from their finished batch prediction jobs.

    A champion of other classes cannot be compared; the evaluation says so instead of failing.
    """
    labels = read_test_labels(storage, dataset_uri)
    evaluation = Evaluation(
        job=candidate_job["jobId"],
        classes=tuple(classes),
        candidate=evaluate_job(storage, candidate_job, labels, classes),
    )
    if champion_job is None:
        return evaluation
    try:
        champion = evaluate_job(storage, champion_job, labels, classes)
        note = f"champion {champion_version}: accuracy {champion.accuracy:.4f}, loss {champion.loss:.4g}"
    except LabelMapMismatch as error:
        champion, note = (
            None,
            f"champion {champion_version} knows other classes, so it is not compared: {error}",
        )
        log.warning(note)
    return replace(
        evaluation,
        champion_version=champion_version,
        champion_job=champion_job["jobId"],
        champion=champion,
        note=note,
    )
