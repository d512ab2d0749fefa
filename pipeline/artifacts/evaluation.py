"""`evaluation.json`: a candidate and, where there is one, its champion on the same test pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from pipeline.artifacts.metrics import Interval, Metrics
from pipeline.artifacts.record import Record

FIRST_VERSION = "first version: there is no champion to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Record):
    """Candidate minus champion in one metric, with the interval of a paired group bootstrap."""

    value: float
    ci95: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Record):
    """A candidate against its champion.

    Args:
        pictures: How many both were tested on.
        gained: Pictures that only the candidate gets right.
        lost: Pictures that only the champion gets right.
        difference: Accuracy of the candidate minus that of the champion.
        interval: Tango's 95 % interval of it, widened by the design effect.
        p_value: Of the exact McNemar test that both are equally good.
        design_effect: How many times more the difference varies because pictures come in groups.
        differences: Candidate minus champion, by metric.
    """

    pictures: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    difference: float
    interval: Interval
    p_value: float
    design_effect: float = 1.0
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedClasses(Record):
    """Candidate and champion on the pictures of the classes that both know.

    Args:
        classes: Those classes.
        pictures: Test pictures of them.
        candidate: The candidate's metrics; None where there is no such picture.
        champion: The champion's.
    """

    classes: tuple[str, ...]
    pictures: int
    candidate: Metrics | None
    champion: Metrics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMetrics(Record):
    """How a model did on a part of the test pictures, and the champion on the same where there is one."""

    pictures: int
    accuracy: float
    accuracy_ci95: Interval
    loss: float
    macro_f1: float
    champion: SliceMetrics | None = None

    def value_of(self, name: str) -> float:
        """Return a metric by its name."""
        value: float = getattr(self, name)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Record):
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
        champion_saw: How many of the test pictures the champion was trained on; None if unknown.
        slices: How both did on parts of the test pictures, by column and value.
        size_mb: Megabytes of the candidate's model directory.
        batch_ms_per_picture: Milliseconds of the batch prediction job for each picture, loading included.
    """

    FORMAT: ClassVar[int | None] = 2
    FORMAT_KEY: ClassVar[str] = "schema"

    job: str
    classes: tuple[str, ...]
    candidate: Metrics
    champion_version: str | None = None
    champion_job: str | None = None
    champion: Metrics | None = None
    note: str = FIRST_VERSION
    comparison: Comparison | None = None
    shared: SharedClasses | None = None
    champion_saw: int | None = None
    slices: dict[str, dict[str, SliceMetrics]] = field(default_factory=dict)
    size_mb: float | None = None
    batch_ms_per_picture: float | None = None

    def headline(self) -> Evaluation:
        """Return what travels between the steps of a run; the rest is in `evaluation.json`."""
        return replace(
            self,
            candidate=self.candidate.headline(),
            champion=self.champion.headline() if self.champion else None,
            comparison=None,
            shared=None,
            slices={},
        )
