"""A run's answers for its test pictures, cell by cell of the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts.evaluated_run import EvaluatedRun
from pipeline.artifacts.evaluation import Evaluation
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache, TestAnswer
from pipeline.pages.pictures import PAGE_SIZE, Picture, read_pictures

MAX_CLASSES_TABLED = 20  # columns of the matrix; with more classes the cells are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a confusion matrix: the pictures of a label that were taken for a class."""

    label: str
    taken_for: str
    count: int

    @property
    def is_right(self) -> bool:
        """Whether the pictures were taken for what they are."""
        return self.label == self.taken_for


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPicture:
    """A picture of a cell, with the probability of the class that it was taken for."""

    picture: Picture
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSheet:
    """A page of the pictures of a cell.

    Args:
        pictures: Those on the page, the surest answer first.
        total: How many there are on all pages.
        page: Its number, from 1.
        pages: How many pages there are.
    """

    pictures: Sequence[CellPicture]
    total: int
    page: int
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswers:
    """What a run's candidate answered for the test pictures.

    Args:
        run_id: The run.
        dataset: The classifier whose pictures they are.
        dataset_version: The dataset version.
        classes: The labels, in the order of the evaluation.
        confusion: For each label, how many of its pictures were taken for each class.
        answers: The answers, by picture.
    """

    run_id: str
    dataset: str
    dataset_version: str
    classes: Sequence[str]
    confusion: Mapping[str, Mapping[str, int]]
    answers: Mapping[str, TestAnswer]

    @property
    def is_tabled(self) -> bool:
        """Whether there are few enough classes for a matrix."""
        return len(self.confusion) <= MAX_CLASSES_TABLED

    @property
    def mistakes(self) -> list[Cell]:
        """The cells of wrong answers, the fullest first."""
        cells = (
            Cell(label=label, taken_for=other, count=count)
            for label, row in self.confusion.items()
            for other, count in row.items()
            if count and other != label
        )
        return sorted(cells, key=lambda cell: (-cell.count, cell.label, cell.taken_for))


def read_answers(cache: ArtifactCache, name: str, run_id: str) -> RunAnswers:
    """Return the answers of a run that was evaluated.

    Raises:
        ObjectNotFound: if it was not evaluated, or the sweep removed its evaluation job.
    """
    evaluated = cache.evaluated(name, run_id)
    if evaluated is None:
        raise ObjectNotFound(f"{name} has no evaluated run {run_id}.")
    evaluation = _read_evaluation(cache, evaluated)
    return RunAnswers(
        run_id=run_id,
        dataset=evaluated.dataset.dataset,
        dataset_version=evaluated.dataset.version,
        classes=evaluation.classes,
        confusion=evaluation.candidate.confusion,
        answers=cache.test_answers(cache.workspace.job(evaluated.evaluation_job), evaluation.classes),
    )


def _read_evaluation(cache: ArtifactCache, evaluated: EvaluatedRun) -> Evaluation:
    uri = cache.workspace.job(evaluated.evaluation_job).evaluation
    evaluation = cache.fixed(uri, lambda: Evaluation.read(cache.storage, uri))
    if evaluation is None:
        raise ObjectNotFound(f"The sweep removed the answers of {evaluated.run_id} with its jobs.", uri=uri)
    return evaluation


def find_cell(answers: RunAnswers, label: str, taken_for: str) -> Cell | None:
    """Return the cell of a label and a class; None if the matrix has no such cell."""
    count = answers.confusion.get(label, {}).get(taken_for)
    return None if count is None else Cell(label=label, taken_for=taken_for, count=count)


def list_cell(cache: ArtifactCache, answers: RunAnswers, cell: Cell, page: int) -> CellSheet:
    """Return a page of the pictures of a cell; those that were taken down since are left out."""
    pictures = read_pictures(cache, answers.dataset, answers.dataset_version)
    chosen = [
        CellPicture(picture=picture, score=answer.score)
        for picture in pictures.rows
        if picture.label == cell.label
        and (answer := answers.answers.get(picture.id)) is not None
        and answer.taken_for == cell.taken_for
    ]
    chosen.sort(key=lambda each: (-each.score, each.picture.id))
    pages = max(1, -(-len(chosen) // PAGE_SIZE))
    page = min(max(page, 1), pages)
    shown = chosen[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return CellSheet(pictures=shown, total=len(chosen), page=page, pages=pages)
