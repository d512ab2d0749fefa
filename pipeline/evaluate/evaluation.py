"""The evaluation of one run: the candidate and, where there is one, the champion, on the same pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.champion import Champion, count_seen_pictures
from pipeline.evaluate.compare import Comparison, compare_pairs
from pipeline.evaluate.metrics import Metrics
from pipeline.evaluate.predictions import (
    check_counts,
    join_predictions,
    read_predictions,
    read_test_rows,
)
from pipeline.ml_engine.resources import Job
from pipeline.storage import Storage
from pipeline.types import JsonDict

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers

log = logging.getLogger(__name__)

SCHEMA = 2
FIRST_VERSION = "first version: there is no champion to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` says; docs/evaluation.md is its schema.

    Args:
        job: Batch prediction job of the candidate.
        classes: Label of output 0, of output 1, ...
        candidate: The candidate's metrics.
        champion_version: The default version when the run evaluated, if there was one.
        champion_job: Its batch prediction job.
        champion: Its metrics on all test pictures, None when it cannot be compared.
        note: What the baseline is, or why there is none.
        comparison: The two, picture by picture.
        shared: Both on the pictures of the classes that both know, where the champion knows other ones.
        champion_saw: How many of the test pictures the champion was trained on; None if nobody knows.
        slices: How both did on parts of the test pictures, by column and value.
        size_mb: Megabytes of the candidate's model directory.
        batch_ms_per_picture: Milliseconds of the batch prediction job for each picture, loading included.
    """

    job: str
    classes: tuple[str, ...]
    candidate: Metrics
    champion_version: str | None = None
    champion_job: str | None = None
    champion: Metrics | None = None
    note: str = FIRST_VERSION
    comparison: Comparison | None = None
    shared: JsonDict | None = None
    champion_saw: int | None = None
    slices: dict[str, dict[str, JsonDict]] = field(default_factory=dict)
    size_mb: float | None = None
    batch_ms_per_picture: float | None = None

    def headline(self) -> Evaluation:
        """Return what travels between the steps of a run; the rest is in `evaluation.json`."""
        return Evaluation(
            job=self.job,
            classes=self.classes,
            candidate=self.candidate.headline(),
            champion_version=self.champion_version,
            champion_job=self.champion_job,
            champion=self.champion.headline() if self.champion else None,
            note=self.note,
            champion_saw=self.champion_saw,
            size_mb=self.size_mb,
            batch_ms_per_picture=self.batch_ms_per_picture,
        )

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        return {
            "schema": SCHEMA,
            "job": self.job,
            "classes": list(self.classes),
            "candidate": self.candidate.to_dict(),
            "champion_version": self.champion_version,
            "champion_job": self.champion_job,
            "champion": self.champion.to_dict() if self.champion else None,
            "note": self.note,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "shared": self.shared,
            "champion_saw": self.champion_saw,
            "slices": self.slices,
            "size_mb": self.size_mb,
            "batch_ms_per_picture": self.batch_ms_per_picture,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Read what `to_dict` wrote, now or before there was a comparison; further keys are ignored."""
        champion, comparison = value["champion"], value.get("comparison")
        return cls(
            job=value["job"],
            classes=tuple(value["classes"]),
            candidate=Metrics.from_dict(value["candidate"]),
            champion_version=value["champion_version"],
            champion_job=value["champion_job"],
            champion=Metrics.from_dict(champion) if champion else None,
            note=value["note"],
            comparison=Comparison.from_dict(comparison) if comparison else None,
            shared=value.get("shared"),
            champion_saw=value.get("champion_saw"),
            slices=value.get("slices", {}),
            size_mb=value.get("size_mb"),
            batch_ms_per_picture=value.get("batch_ms_per_picture"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """The test pictures of a dataset version.

    Args:
        rows: Their manifest rows, by id.
        classes: The dataset's labels.
    """

    __test__ = False

    rows: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]

    def ask(self, storage: Storage, output_path: str, model_classes: Sequence[str]) -> Answers:
        """Return what a model said of the pictures in a batch prediction job.

        Raises:
            EvaluationError: if its predictions are not exactly one for each picture.
            LabelMapMismatch: if its labels are not those it is said to have.
        """
        from pipeline.evaluate.answers import collect_answers

        labels = {key: str(row["label"]) for key, row in self.rows.items()}
        predictions = join_predictions(read_predictions(storage, output_path), labels)
        groups = {key: str(row.get("group") or key) for key, row in self.rows.items()}
        return collect_answers(
            predictions, labels, model_classes=model_classes, classes=self.classes, groups=groups
        )


def evaluate_model(
    storage: Storage,
    *,
    dataset_uri: str,
    classes: Sequence[str],
    candidate_job: Job,
    champion: Champion | None = None,
    slices: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a candidate and its champion from their finished batch prediction jobs.

    Args:
        storage: Where predictions and manifests are.
        dataset_uri: The dataset version whose test pictures both were asked about.
        classes: The candidate's labels, those of the dataset.
        candidate_job: The candidate's job.
        champion: The version that serves, if one does.
        slices: Columns to slice by, besides those that always are.

    Raises:
        EvaluationError: if predictions and test pictures do not fit.
        ConfigError: if there is no column to slice by.
    """
    from pipeline.evaluate.measure import measure
    from pipeline.evaluate.slices import check_columns, measure_slices

    check_columns(slices)
    tested = TestSet(rows=read_test_rows(storage, dataset_uri), classes=tuple(classes))
    check_counts(candidate_job, len(tested.rows))
    answers = tested.ask(storage, candidate_job["predictionInput"]["outputPath"], classes)
    evaluation = Evaluation(
        job=candidate_job["jobId"],
        classes=tuple(classes),
        candidate=measure(answers),
        size_mb=_model_size(storage, candidate_job),
        batch_ms_per_picture=_batch_speed(candidate_job, len(tested.rows)),
    )
    others = None
    if champion is not None:
        others, problem = _ask_champion(storage, champion, tested)
        if others is not None:
            evaluation = _compare(storage, evaluation, champion, tested, answers, others)
        else:
            note = (
                f"champion {champion.version} {problem}: it is not compared, only absolute rules are judged"
            )
            log.warning(note)
            evaluation = replace(evaluation, champion_version=champion.version, note=note)
    return replace(evaluation, slices=measure_slices(tested.rows, slices, answers, others))


def _ask_champion(storage: Storage, champion: Champion, tested: TestSet) -> tuple[Answers | None, str]:
    """Return the champion's answers, or None and why it has none that could be compared."""
    if champion.classes is None:
        return None, "carries no metadata of Graft's (graft/labels.json), so nobody knows its classes"
    try:
        return tested.ask(storage, champion.output_path, champion.classes), ""
    except LabelMapMismatch as error:
        return None, f"answers otherwise than its graft/labels.json says ({error})"


def _compare(
    storage: Storage,
    evaluation: Evaluation,
    champion: Champion,
    tested: TestSet,
    answers: Answers,
    others: Answers,
) -> Evaluation:
    from pipeline.evaluate.bootstrap import difference_intervals
    from pipeline.evaluate.measure import measure

    metrics = measure(others)
    intervals = difference_intervals(answers, others)
    differences = {}
    for name in ("accuracy", "loss", *evaluation.candidate.scores):
        one, other = evaluation.candidate.value_of(name), metrics.value_of(name)
        if one is not None and other is not None:
            differences[name] = {"value": one - other, "ci95": intervals.get(name)}
    comparison = compare_pairs(
        answers.keys,
        answers.correct.tolist(),
        others.correct.tolist(),
        groups=answers.groups.tolist(),
        differences=differences,
    )
    saw = count_seen_pictures(storage, champion, set(tested.rows))
    return replace(
        evaluation,
        champion_version=champion.version,
        champion_job=champion.job,
        champion=metrics,
        note=_note(champion, metrics, tested, saw),
        comparison=comparison,
        shared=_shared(champion, tested, answers, others),
        champion_saw=saw,
    )


def _note(champion: Champion, metrics: Metrics, tested: TestSet, saw: int | None) -> str:
    note = f"champion {champion.version}: accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4g}"
    unknown = [label for label in tested.classes if label not in (champion.classes or ())]
    if unknown:
        note += f"; it does not know {', '.join(unknown)}, whose pictures count as its misses"
    if saw:
        note += (
            f"; it was trained on {saw} of today's {len(tested.rows)} test pictures, so it looks better "
            "here than it is"
        )
        log.warning(note)
    return note


def _shared(champion: Champion, tested: TestSet, answers: Answers, others: Answers) -> JsonDict | None:
    """Measure both on the pictures of the classes that both know; None where these are all."""
    import numpy as np

    from pipeline.evaluate.measure import measure

    known = champion.classes or ()
    if set(known) == set(tested.classes):
        return None
    shared = [label for label in tested.classes if label in known]
    mask = np.isin(answers.truth, [tested.classes.index(label) for label in shared])
    found: JsonDict = {"classes": shared, "pictures": int(mask.sum()), "candidate": None, "champion": None}
    if mask.any():
        found["candidate"] = measure(answers.select(mask)).headline().to_dict()
        found["champion"] = measure(others.select(mask)).headline().to_dict()
    return found


def _model_size(storage: Storage, job: Job) -> float | None:
    uri = job["predictionInput"].get("uri")
    if uri is None:
        return None
    uris = storage.list_uris(f"{uri.rstrip('/')}/")
    return sum(storage.local_path(found).stat().st_size for found in uris) / 1e6 if uris else None


def _batch_speed(job: Mapping[str, Any], pictures: int) -> float | None:
    if not job.get("startTime") or not job.get("endTime"):
        return None
    start, end = datetime.fromisoformat(job["startTime"]), datetime.fromisoformat(job["endTime"])
    return (end - start).total_seconds() * 1000 / pictures


def read_evaluation(storage: Storage, uri: str) -> Evaluation:
    """Read an `evaluation.json`.

    Raises:
        EvaluationError: if a later Graft wrote it.
    """
    value = storage.read_json(uri)
    if value.get("schema", 1) > SCHEMA:
        raise EvaluationError(f"{uri} has schema {value['schema']}; this Graft knows up to {SCHEMA}.")
    return Evaluation.from_dict(value)
