"""`evaluated.json`: where the report of a run is and what the gate decided, before the run has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.artifacts.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectedLabel(Record):
    """A training picture whose label the others contradict.

    Args:
        id: The picture.
        label: The label it has.
        predicted: The label that the others make likely.
        self_confidence: Probability of its own label, by a model that has not seen it.
    """

    id: str
    label: str
    predicted: str
    self_confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspectedLabels(Record):
    """The suspected labels of a run.

    Args:
        examined: How many training pictures were examined.
        count: How many of them are suspected.
        found: Those, the least confident label first.
    """

    examined: int
    count: int
    found: tuple[SuspectedLabel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName(Record):
    """A dataset version by its names."""

    dataset: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRun(Record):
    """A run that was evaluated.

    Args:
        run_id: The run.
        dataset: Its pictures.
        evaluation_job: The batch prediction job of its evaluation.
        accuracy: The candidate's.
        accepted: Whether the gate accepted it.
        reasons: Why not, a rule a line.
        report: URI of the report.
        label_issues: The suspected labels; None where they were not examined.
    """

    FORMAT: ClassVar[int | None] = 1

    run_id: str
    dataset: DatasetName
    evaluation_job: str
    accuracy: float
    accepted: bool
    reasons: tuple[str, ...]
    report: str
    label_issues: SuspectedLabels | None
