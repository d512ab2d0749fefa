"""Compares the options of a classifier, from submission to recommendation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from pipeline.artifacts.held_out_answers import ComparisonRecord, HeldOutAnswers, OptionCost
from pipeline.artifacts.model_comparison import ComparedOption, ModelComparison
from pipeline.artifacts.workspace import Workspace
from pipeline.compare.choice import choose
from pipeline.compare.estimates import JudgedOption, estimate_scores, judge, selection_optimism
from pipeline.compare.jobs import ComparisonJob
from pipeline.compare.options import Option
from pipeline.errors import PredictionJoinError
from pipeline.types import IntArray, JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An option, what it costs and how it was judged."""

    option: Option
    job: ComparisonJob
    record: ComparisonRecord
    cost: OptionCost
    judged: JudgedOption


def compare_answers(
    workspace: Workspace, jobs: Sequence[ComparisonJob], *, classifier: str, dataset_version: str
) -> ModelComparison:
    """Judge what jobs have left, recommend an option, and keep the comparison in the workspace.

    Raises:
        PredictionJoinError: if the jobs have not judged the same pictures.
    """
    results = [job.read() for job in jobs]
    ids, folds = _shared_pictures([answers for _, answers in results])
    entries = [
        entry
        for job, (record, answers) in zip(jobs, results, strict=True)
        for entry in _judge_job(job, record, answers)
    ]
    entries.sort(key=lambda entry: entry.judged.log_loss)
    options = tuple(_describe(entry, entries[0].judged, folds) for entry in entries)
    optimism = selection_optimism([entry.judged for entry in entries], folds)
    choice = choose(options, optimism)
    comparison = ModelComparison(
        classifier=classifier,
        dataset_version=dataset_version,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        pictures=len(ids),
        folds=len(np.unique(folds)),
        options=options,
        chosen=choice.option.name,
        recommendation=choice.sentence,
        optimism=optimism,
        model=_present_model(jobs),
    )
    comparison.write(workspace.storage, workspace.classifier(classifier).comparison)
    return comparison


def _present_model(jobs: Sequence[ComparisonJob]) -> JsonDict:
    """Return the `model` section that the classifier has; every comparison has the present model."""
    options = (option for job in jobs for option in job.options)
    present = next(option for option in options if not option.parameters)
    model: JsonDict = present.classifier.to_dict().get("model", {})
    return model


def _shared_pictures(answers: Sequence[HeldOutAnswers]) -> tuple[list[bytes], IntArray]:
    """Return the ids and folds of the pictures that all jobs have judged, in the order of the ids."""
    first, *others = (_by_id(each) for each in answers)
    if any(other != first for other in others):
        raise PredictionJoinError(
            "The jobs have judged different training pictures, so their options cannot be compared. Start "
            "the comparison again."
        )
    return list(first), np.array(list(first.values()), np.int64)


def _by_id(answers: HeldOutAnswers) -> dict[bytes, int]:
    order = np.argsort(answers.ids)
    return dict(zip(answers.ids[order].tolist(), answers.folds[order].tolist(), strict=True))


def _judge_job(job: ComparisonJob, record: ComparisonRecord, answers: HeldOutAnswers) -> Iterator[_Entry]:
    order = np.argsort(answers.ids)
    for number, (option, cost) in enumerate(zip(job.options, record.options, strict=True)):
        judged = judge(answers.labels[order], answers.of_option(number)[order])
        yield _Entry(option=option, job=job, record=record, cost=cost, judged=judged)


def _describe(entry: _Entry, best: JudgedOption, folds: IntArray) -> ComparedOption:
    record, cost = entry.record, entry.cost
    return ComparedOption(
        name=entry.option.name,
        parameters=dict(entry.option.parameters),
        cross_validated=estimate_scores(entry.judged, best, folds),
        cpu_ms=record.network_cpu_ms + cost.head_cpu_ms,
        latency_ms=record.latency_ms + cost.head_cpu_ms,
        model_bytes=record.network_bytes + cost.head_bytes,
        fit_cpu_seconds=cost.fit_cpu_seconds,
        job=entry.job.job_id,
    )
