"""Evaluates a candidate and, where there is one, its champion on the same test pictures."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.artifacts.evaluation import Evaluation, Reference, SplitChanges
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.metrics import Metrics
from pipeline.errors import EvaluationError, LabelMapMismatch
from pipeline.evaluate.champion import Champion, ChampionPictures, read_champion_pictures, read_split_method
from pipeline.evaluate.predictions import (
    Prediction,
    PredictionJob,
    check_counts,
    join_predictions,
    read_predictions,
    read_test_rows,
)
from pipeline.evaluate.ratchet import ServedVersion
from pipeline.storage import Storage

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers

log = logging.getLogger(__name__)

MIN_COMPARED = 20  # pictures below which a comparison tells too little


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """The test pictures of a dataset version.

    Args:
        rows: Their manifest rows, by id.
        classes: The dataset's labels.
    """

    __test__ = False

    rows: Mapping[str, ManifestRow]
    classes: tuple[str, ...]

    def ask(self, storage: Storage, output_path: str, model_classes: Sequence[str]) -> Answers:
        """Return a model's answers for the pictures, from a batch prediction job.

        Raises:
            EvaluationError: if its predictions are not exactly one for each picture.
            LabelMapMismatch: if its labels are not `model_classes`.
        """
        return self.join(read_predictions(storage, output_path), model_classes)

    def select(self, keys: Collection[str], classes: Collection[str]) -> TestSet:
        """Return the pictures with one of the ids and one of the labels."""
        rows = {key: row for key, row in self.rows.items() if key in keys and row.label in classes}
        return TestSet(rows=rows, classes=self.classes)

    def join(
        self, predictions: Sequence[Prediction], model_classes: Sequence[str], *, allow_more: bool = False
    ) -> Answers:
        """Return a model's answers for the pictures.

        Args:
            predictions: Its predictions.
            model_classes: Its classes.
            allow_more: Whether there may be predictions of other pictures, too.

        Raises:
            EvaluationError: if the predictions are not exactly one for each picture.
            LabelMapMismatch: if its labels are not `model_classes`.
        """
        from pipeline.evaluate.answers import collect_answers

        labels = {key: row.label for key, row in self.rows.items()}
        if allow_more:
            predictions = [each for each in predictions if each.key in labels]
        joined = join_predictions(predictions, labels)
        groups = {key: row.group or key for key, row in self.rows.items()}
        return collect_answers(
            joined, labels, model_classes=model_classes, classes=self.classes, groups=groups
        )


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
    storage = dataset.storage
    tested = TestSet(rows=read_test_rows(dataset), classes=tuple(classes))
    check_counts(candidate_job, len(tested.rows))
    answers = tested.ask(storage, candidate_job.output_path, classes)
    seconds = candidate_job.seconds
    evaluation = Evaluation(
        job=candidate_job.job,
        classes=tuple(classes),
        candidate=measure(answers),
        size_mb=_model_size(storage, candidate_job.model_uri),
        batch_ms_per_picture=None if seconds is None else 1000 * seconds / len(tested.rows),
        chance=measure_chance(answers),
    )
    others = None
    if champion is not None:
        others, problem = _ask_champion(storage, champion, tested)
        if others is not None:
            evaluation = _compare(dataset, evaluation, champion, tested, answers, others, slices)
            evaluation = replace(evaluation, reference=_find_reference(storage, better, tested, answers))
        else:
            evaluation = _leave_uncompared(evaluation, champion, problem)
    return replace(evaluation, slices=measure_slices(tested.rows, slices, answers, others))


def _ask_champion(storage: Storage, champion: Champion, tested: TestSet) -> tuple[Answers | None, str]:
    """Return the champion's answers, or None and why it has none that could be compared."""
    if champion.classes is None:
        return None, "carries no metadata of Graft's (graft/labels.json), so its classes are unknown"
    try:
        return tested.ask(storage, champion.output_path, champion.classes), ""
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
) -> Evaluation:
    from pipeline.evaluate.measure import measure
    from pipeline.evaluate.pairing import (
        compare_answers,
        compare_shared,
        describe_relabelled,
        find_class_changes,
        measure_differences,
    )

    metrics, pictures = measure(others), read_champion_pictures(dataset.storage, champion)
    trained_on = pictures.trained & set(tested.rows) if pictures else frozenset()
    labels, champion_labels = _read_labels(dataset), pictures.labels if pictures else {}
    changes = find_class_changes(
        tested.classes, champion.classes or (), labels=labels, champion_labels=champion_labels
    )
    relabelled = describe_relabelled(others, labels, champion_labels)
    changed = f"classes changed: {changes.text}" if changes else ""
    notes = (_note(champion, metrics, tested, len(trained_on)), changed, relabelled)
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
            classes=tested.classes,
            champion_classes=champion.classes or (),
            trained_on=trained_on,
            rows=[tested.rows[key] for key in answers.keys],
            slices=slices,
        ),
        champion_saw=len(trained_on) if pictures else None,
        class_changes=changes,
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
    storage: Storage, better: Sequence[ServedVersion], tested: TestSet, answers: Answers
) -> Reference | None:
    """Return the first of the better versions that has answered enough of the test pictures."""
    import numpy as np

    from pipeline.evaluate.pairing import compare_answers

    for served in better:
        try:
            predictions = read_predictions(storage, served.output_path)
            part = tested.select({prediction.key for prediction in predictions}, served.classes)
            if len(part.rows) < MIN_COMPARED:
                continue
            others = part.join(predictions, served.classes, allow_more=True)
        except (EvaluationError, LabelMapMismatch) as error:  # the job of its evaluation is gone, or not ours
            log.warning("version %s cannot be compared: %s", served.version, error)
            continue
        chosen = answers.select(np.array([key in part.rows for key in answers.keys]))
        return Reference(version=served.version, comparison=compare_answers(chosen, others))
    return None


def _note(champion: Champion, metrics: Metrics, tested: TestSet, saw: int) -> str:
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


def _model_size(storage: Storage, model_uri: str | None) -> float | None:
    if model_uri is None:
        return None
    uris = storage.list_uris(f"{model_uri.rstrip('/')}/")
    return sum(storage.local_path(uri).stat().st_size for uri in uris) / 1e6 if uris else None
