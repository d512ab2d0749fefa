"""Evaluates a candidate and, where there is one, its champion on the same test pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.artifacts.evaluation import Difference, Evaluation, SharedClasses
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.metrics import Metrics
from pipeline.artifacts.workspace import DatasetVersionFolder
from pipeline.errors import LabelMapMismatch
from pipeline.evaluate.champion import Champion, count_seen_pictures
from pipeline.evaluate.compare import compare_pairs
from pipeline.evaluate.predictions import (
    PredictionJob,
    check_counts,
    join_predictions,
    read_predictions,
    read_test_rows,
)
from pipeline.storage import Storage

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Answers

log = logging.getLogger(__name__)


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
        from pipeline.evaluate.answers import collect_answers

        labels = {key: row.label for key, row in self.rows.items()}
        predictions = join_predictions(read_predictions(storage, output_path), labels)
        groups = {key: row.group or key for key, row in self.rows.items()}
        return collect_answers(
            predictions, labels, model_classes=model_classes, classes=self.classes, groups=groups
        )


def evaluate_model(
    dataset: DatasetVersionFolder,
    *,
    classes: Sequence[str],
    candidate_job: PredictionJob,
    champion: Champion | None = None,
    slices: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a candidate and its champion from their finished batch prediction jobs.

    Args:
        dataset: The dataset version whose test pictures both were asked about.
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
        return None, "carries no metadata of Graft's (graft/labels.json), so its classes are unknown"
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
            differences[name] = Difference(value=one - other, ci95=intervals.get(name))
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


def _shared(champion: Champion, tested: TestSet, answers: Answers, others: Answers) -> SharedClasses | None:
    """Measure both on the pictures of the classes that both know; None where these are all."""
    import numpy as np

    from pipeline.evaluate.measure import measure

    classes = champion.classes or ()
    if set(classes) == set(tested.classes):
        return None
    shared = [label for label in tested.classes if label in classes]
    mask = np.isin(answers.truth, [tested.classes.index(label) for label in shared])
    candidate, other = (
        measure(each.select(mask)).headline() if mask.any() else None for each in (answers, others)
    )
    return SharedClasses(classes=tuple(shared), pictures=int(mask.sum()), candidate=candidate, champion=other)


def _model_size(storage: Storage, model_uri: str | None) -> float | None:
    if model_uri is None:
        return None
    uris = storage.list_uris(f"{model_uri.rstrip('/')}/")
    return sum(storage.local_path(uri).stat().st_size for uri in uris) / 1e6 if uris else None
