"""Evaluates a candidate and, where there is one, its champion on the same test pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.evaluation import Evaluation, Reference, SplitChanges
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.metrics import Metrics
from pipeline.errors import DamagedObject, EvaluationError, LabelMapMismatch
from pipeline.evaluate.champion import Champion, ChampionPictures, read_champion_pictures, read_split_method
from pipeline.evaluate.predictions import (
    PredictionJob,
    check_counts,
    read_predictions,
    read_test_rows,
)
from pipeline.evaluate.ratchet import ServedVersion
from pipeline.evaluate.tested import TestSet
from pipeline.storage import Storage

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers

log = logging.getLogger(__name__)

MIN_COMPARED = 20  # pictures below which a comparison tells too little


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relation:
    """How the dataset version is related to the one that the champion was trained on.

    Args:
        pictures: The champion's; None if they are unknown.
        labels: Label of each kept picture now, by id.
        changes: How the classes changed.
    """

    pictures: ChampionPictures | None
    labels: Mapping[str, str]
    changes: ClassChanges


def evaluate_model(
    dataset: DatasetVersionFolder,
    *,
    classes: Sequence[str],
    candidate_job: PredictionJob,
    champion: Champion | None = None,
    better: Sequence[ServedVersion] = (),
    slices: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a candidate and its champion from their finished batch prediction jobs.

    Args:
        dataset: The dataset version whose test pictures both were asked about.
        classes: The candidate's labels, those of the dataset.
        candidate_job: The candidate's job.
        champion: The version that serves, if one does.
        better: Versions of late that were more accurate than the champion, the most accurate first.
        slices: Columns to slice by, besides those that always are.

    Raises:
        EvaluationError: if predictions and test pictures do not fit.
        ConfigError: if there is no column to slice by.
    """
    from pipeline.evaluate.chance import measure_chance
    from pipeline.evaluate.measure import measure
    from pipeline.evaluate.slices import check_columns, measure_slices

    check_columns(slices)
    storage, others = dataset.storage, None
    tested = TestSet(rows=read_test_rows(dataset), classes=tuple(classes))
    check_counts(candidate_job, len(tested.rows))
    answers, seconds = tested.ask(storage, candidate_job.output_path, classes), candidate_job.seconds
    evaluation = Evaluation(
        job=candidate_job.job,
        classes=tuple(classes),
        candidate=measure(answers),
        size_mb=_model_size(storage, candidate_job.model_uri),
        batch_ms_per_picture=None if seconds is None else 1000 * seconds / len(tested.rows),
        chance=measure_chance(answers),
    )
    if champion is not None:
        relation = _relate(dataset, champion, tested, _read_labels(dataset))
        others, problem = _ask_champion(storage, champion, tested, relation.changes.successors)
        if others is not None:
            evaluation = _compare(dataset, evaluation, champion, tested, answers, others, slices, relation)
            reference = _find_reference(dataset, better, tested, answers, relation.labels)
            evaluation = replace(evaluation, reference=reference)
        else:
            evaluation = _leave_uncompared(evaluation, champion, problem)
    return replace(evaluation, slices=measure_slices(tested.rows, slices, answers, others))


def _relate(
    dataset: DatasetVersionFolder, other: Champion | ServedVersion, tested: TestSet, labels: Mapping[str, str]
) -> _Relation:
    from pipeline.evaluate.pairing import find_class_changes

    pictures = read_champion_pictures(dataset.storage, other)
    before = pictures.labels if pictures else {}
    changes = find_class_changes(tested.classes, other.classes or (), labels=labels, champion_labels=before)
    return _Relation(pictures=pictures, labels=labels, changes=changes or ClassChanges())


def _ask_champion(
    storage: Storage, champion: Champion, tested: TestSet, names: Mapping[str, str]
) -> tuple[Answers | None, str]:
    """Return the champion's answers, or None and why it has none that could be compared."""
    if champion.classes is None:
        return None, "carries no metadata of Graft's (graft/labels.json), so its classes are unknown"
    try:
        return tested.ask(storage, champion.output_path, champion.classes, names), ""
    except LabelMapMismatch as error:
        return None, f"answers otherwise than its graft/labels.json says ({error})"


def _leave_uncompared(evaluation: Evaluation, champion: Champion, problem: str) -> Evaluation:
    note = f"champion {champion.version} {problem}: it is not compared, only absolute rules are judged"
    log.warning(note)
    return replace(evaluation, champion_version=champion.version, note=note)


def _compare(
    dataset: DatasetVersionFolder,
    evaluation: Evaluation,
    champion: Champion,
    tested: TestSet,
    answers: Answers,
    others: Answers,
    slices: Sequence[str],
    relation: _Relation,
) -> Evaluation:
    from pipeline.evaluate.measure import measure
    from pipeline.evaluate.pairing import (
        compare_answers,
        compare_shared,
        describe_relabelled,
        measure_differences,
    )

    metrics, pictures, changes = measure(others), relation.pictures, relation.changes
    trained_on = pictures.trained & set(tested.rows) if pictures else frozenset()
    before, names = pictures.labels if pictures else {}, changes.successors
    relabelled = describe_relabelled(
        others, relation.labels, {key: names.get(label, label) for key, label in before.items()}
    )
    changed = f"classes changed: {changes.text}" if changes.text else ""
    unknown = [label for label in tested.classes if label in changes.added and label not in names.values()]
    notes = (_note(champion, metrics, tested, unknown, len(trained_on)), changed, relabelled)
    differences = measure_differences(answers, others, evaluation.candidate, metrics)
    return replace(
        evaluation,
        champion_version=champion.version,
        champion_job=champion.job,
        champion=metrics,
        note="; ".join(filter(None, notes)),
        comparison=replace(compare_answers(answers, others), differences=differences),
        shared=compare_shared(
            answers,
            others,
            classes=changes.comparable(tested.classes),
            trained_on=trained_on,
            rows=[tested.rows[key] for key in answers.keys],
            slices=slices,
        ),
        champion_saw=len(trained_on) if pictures else None,
        class_changes=changes if changes.text else None,
        split_changes=None if pictures is None else find_split_changes(dataset, pictures, tested),
    )


def find_split_changes(
    dataset: DatasetVersionFolder, pictures: ChampionPictures, tested: TestSet
) -> SplitChanges | None:
    """Return how the split differs from that of the champion's dataset version; None if it is made alike."""
    method = read_split_method(dataset)
    if not method or pictures.split_method in ("", method):
        return None
    kept = set(_read_labels(dataset))
    return SplitChanges(
        before=pictures.split_method,
        now=method,
        to_test=len(pictures.trained & set(tested.rows)),
        to_train=len(pictures.tested & (kept - set(tested.rows))),
    )


def _read_labels(dataset: DatasetVersionFolder) -> dict[str, str]:
    rows = Manifest(dataset).rows(("id", "label", "status"))
    return {row.id: row.label for row in rows if row.is_kept and row.id is not None}


def _find_reference(
    dataset: DatasetVersionFolder,
    better: Sequence[ServedVersion],
    tested: TestSet,
    answers: Answers,
    labels: Mapping[str, str],
) -> Reference | None:
    """Return the first of the better versions that has answered enough of the test pictures."""
    import numpy as np

    from pipeline.evaluate.pairing import compare_answers

    for served in better:
        try:
            predictions = read_predictions(dataset.storage, served.output_path)
            changes = _relate(dataset, served, tested, labels).changes
            classes = changes.comparable(tested.classes)
            part = tested.select({prediction.key for prediction in predictions}, classes)
            if len(part.rows) < MIN_COMPARED:
                continue
            others = part.join(predictions, served.classes, changes.successors, allow_more=True)
        except (EvaluationError, LabelMapMismatch, DamagedObject) as error:  # gone, damaged, or not ours
            log.warning("version %s cannot be compared: %s", served.version, error)
            continue
        chosen = answers.select(np.array([key in part.rows for key in answers.keys]))
        return Reference(version=served.version, comparison=compare_answers(chosen, others))
    return None


def _note(champion: Champion, metrics: Metrics, tested: TestSet, unknown: Sequence[str], saw: int) -> str:
    note = f"champion {champion.version}: accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4g}"
    if unknown:
        note += f"; it does not know {', '.join(unknown)}, whose pictures count as its misses"
    if saw:
        note += (
            f"; it was trained on {saw} of today's {len(tested.rows)} test pictures, so it looks better "
            "here than it is"
        )
        log.warning(note)
    return note


def _model_size(storage: Storage, model_uri: str | None) -> float | None:
    if model_uri is None:
        return None
    uris = storage.list_uris(f"{model_uri.rstrip('/')}/")
    return sum(storage.local_path(uri).stat().st_size for uri in uris) / 1e6 if uris else None
