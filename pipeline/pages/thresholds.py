"""What thresholds by class do to a version's answers, by cross-validation on its training pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.artifacts.fold_answers import FoldAnswers
from pipeline.artifacts.history import served_before
from pipeline.artifacts.metrics import Interval
from pipeline.artifacts.model_record import Lineage
from pipeline.errors import ObjectNotFound
from pipeline.pages.artifact_cache import ArtifactCache

if TYPE_CHECKING:
    from pipeline.types import BoolArray

MAX_CURVES = 8  # lines in the drawing
MAX_STEPS = 200  # points of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of some pictures, with the interval of the share; no share of no pictures."""

    hits: int
    total: int
    interval: Interval | None

    @property
    def value(self) -> float | None:
        """The share."""
        return self.hits / self.total if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedClass:
    """What a threshold does to the answers of one class.

    Args:
        index: Of the class.
        label: Its name.
        bound: The threshold.
        precision: Of the answers that are left, those that are right.
        recall: Of the pictures of the class, those that are answered with it.
        answered: Of the pictures that the class is the most probable one of, those that get its label.
    """

    index: int
    label: str
    bound: float
    precision: Share
    recall: Share
    answered: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedThresholds:
    """What thresholds do to the answers of a version.

    Args:
        version: The version.
        served: The bounds that the version itself serves with, in the order of the classes.
        pictures: Training pictures that a head answered for without having seen them.
        rows: Class by class.
        answered: Of all pictures, those that get a label.
        right: Of those, the ones whose label is right.
        curves: (recall, precision) of the first classes as their threshold falls.
    """

    version: str
    served: Sequence[float]
    pictures: int
    rows: Sequence[JudgedClass]
    answered: Share
    right: Share
    curves: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedVersion:
    """A version with the answers of its training job's cross-validation."""

    version: str
    lineage: Lineage
    classes: Sequence[str]
    answers: FoldAnswers

    @property
    def served(self) -> list[float]:
        """The bounds that the version serves with, in the order of the classes."""
        return [self.lineage.reject_below(label) for label in self.classes]


def read_folds(cache: ArtifactCache, name: str, version: str) -> FoldedVersion:
    """Return a version, by default the one that serves, with its cross-validation.

    Raises:
        ObjectNotFound: if there is no such version, or its job has left no answers; the message says why.
    """
    if not version:
        served = served_before(cache.history(name))
        if not served:
            raise ObjectNotFound(f"No version of {name} serves, so there is nothing to judge. Start a run.")
        version = served[-1]
    lineage = cache.lineage(name, version)
    if lineage is None:
        raise ObjectNotFound(f"{name} has no version {version} that says where it comes from.")
    job = cache.workspace.job(lineage.training.job)
    answers = cache.fixed(job.fold_answers, lambda: FoldAnswers.find(job))
    if answers is None:
        raise ObjectNotFound(
            f"The training job of {version} has kept no answers of a cross-validation: an earlier release "
            "made it, its head or its backbone's blocks are trained in a way that is not cross-validated, "
            "it had too few pictures, or the sweep removed it. Start a run."
        )
    classes = lineage.training.classes
    return FoldedVersion(version=version, lineage=lineage, classes=classes, answers=answers)


def judge_thresholds(folded: FoldedVersion, bounds: Sequence[float]) -> JudgedThresholds:
    """Return what bounds do to the answers of a version.

    Args:
        folded: The version.
        bounds: The probability below which each class is not answered, in their order.
    """
    import numpy as np

    answers = folded.answers
    is_answered = answers.scores >= np.array(bounds, np.float32)[answers.predicted]
    is_right = answers.predicted == answers.labels
    every = np.ones(len(is_right), bool)
    return JudgedThresholds(
        version=folded.version,
        served=folded.served,
        pictures=len(is_right),
        rows=list(_judge_classes(folded, bounds, is_answered, is_right)),
        answered=_share(answers, is_answered, every),
        right=_share(answers, is_right, is_answered),
        curves=dict(_draw(answers, folded.classes)),
    )


def _judge_classes(
    folded: FoldedVersion, bounds: Sequence[float], is_answered: BoolArray, is_right: BoolArray
) -> Iterator[JudgedClass]:
    answers = folded.answers
    for index, label in enumerate(folded.classes):
        is_taken = answers.predicted == index
        yield JudgedClass(
            index=index,
            label=label,
            bound=bounds[index],
            precision=_share(answers, is_right, is_taken & is_answered),
            recall=_share(answers, is_right & is_answered, answers.labels == index),
            answered=_share(answers, is_answered, is_taken),
        )


def _share(answers: FoldAnswers, hits: BoolArray, among: BoolArray) -> Share:
    from pipeline.evaluate.score_intervals import share_interval

    chosen = hits[among]
    interval = share_interval(chosen, answers.groups[among])
    return Share(hits=int(chosen.sum()), total=len(chosen), interval=interval)


def _draw(answers: FoldAnswers, classes: Sequence[str]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Yield (recall, precision) of each class at thresholds that make a difference."""
    import numpy as np

    for index, label in enumerate(classes[:MAX_CURVES]):
        support = int((answers.labels == index).sum())
        rows = np.flatnonzero(answers.predicted == index)
        rows = rows[np.argsort(-answers.scores[rows], kind="stable")]
        if not support or not len(rows):
            continue
        hits = np.cumsum(answers.labels[rows] == index)
        scores = answers.scores[rows]
        # Answers of equal probability fall together.
        steps = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, MAX_STEPS).astype(int))]
        recall, precision = hits[steps] / support, hits[steps] / (steps + 1)
        yield label, list(zip(recall.tolist(), precision.tolist(), strict=True))


def chosen_thresholds(judged: JudgedThresholds, reject_below: float) -> dict[str, float]:
    """Return what `serving.thresholds` must say for the bounds: those that differ from `reject_below`."""
    return {row.label: row.bound for row in judged.rows if row.bound != reject_below}
