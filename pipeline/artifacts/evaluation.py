"""`evaluation.json`: a candidate and, where there is one, its champion on the same test pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.metrics import Interval, Metrics
from pipeline.artifacts.record import Record

FIRST_VERSION = "first version: there is no champion to compare with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Record):
    """Candidate minus champion in one metric, with the interval of a paired group bootstrap."""

    value: float
    ci95: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPairs(Record):
    """Two models on the pictures of one class; the fields are those of `Comparison`, as counts."""

    pictures: int
    gained: int
    lost: int
    design_effect: float = 1.0


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
        changed: Pictures that the two answer differently, right or wrong; None in older files.
        classes: The two on the pictures of each class.
    """

    pictures: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    difference: float
    interval: Interval
    p_value: float
    design_effect: float = 1.0
    differences: dict[str, Difference] = field(default_factory=dict)
    changed: int | None = None
    classes: dict[str, ClassPairs] = field(default_factory=dict)


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
class SharedClasses(Record):
    """Candidate and champion on the pictures that can be compared.

    These are pictures of the classes that both know, under whatever name, without those that the champion was
    trained on.

    Args:
        classes: Those classes.
        pictures: How many such test pictures there are.
        candidate: The candidate's metrics; None where there is no such picture.
        champion: The champion's.
        comparison: The two, picture by picture.
        slices: How both did on parts of these pictures, by column and value.
        trained_on: Test pictures that are left out because the champion was trained on them.
    """

    classes: tuple[str, ...]
    pictures: int
    candidate: Metrics | None
    champion: Metrics | None
    comparison: Comparison | None = None
    slices: dict[str, dict[str, SliceMetrics]] = field(default_factory=dict)
    trained_on: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitChanges(Record):
    """How the split differs from that of the champion's dataset version.

    Args:
        before: The champion's `split.method`.
        now: The candidate's.
        to_test: Test pictures that the champion was trained on.
        to_train: Training pictures that were test pictures.
    """

    before: str
    now: str
    to_test: int
    to_train: int

    @property
    def text(self) -> str:
        """The changes in words."""
        return (
            f"the test set is chosen by `{self.now}`, was by `{self.before}`: {self.to_test} training "
            f"pictures of the champion test now, {self.to_train} of its test pictures train"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance(Record):
    """Whether answers depend on the labels.

    Args:
        p_value: How often answers that do not depend on the labels hit at least as often as these.
        lowest_p_value: The same for answers that are all right: what the test pictures can show at best.
    """

    p_value: float
    lowest_p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Record):
    """The most accurate version that served lately, on the test pictures that it has answered too.

    Args:
        version: The version.
        comparison: The candidate against it.
    """

    version: str
    comparison: Comparison


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
        shared: Both on the pictures that can be compared, where these are not all of them.
        champion_saw: How many of the test pictures the champion was trained on; None if unknown.
        slices: How both did on parts of the test pictures, by column and value.
        size_mb: Megabytes of the candidate's model directory.
        batch_ms_per_picture: Milliseconds of the batch prediction job for each picture, loading included.
        chance: Whether the candidate's answers depend on the labels; None in older files.
        class_changes: How the classes differ from the champion's; None if they are the same.
        split_changes: How the split differs from the champion's; None if it is made the same way.
        reference: The most accurate version of late, where it is another than the champion.
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
    chance: Chance | None = None
    class_changes: ClassChanges | None = None
    split_changes: SplitChanges | None = None
    reference: Reference | None = None

    @property
    def comparable(self) -> SharedClasses | None:
        """Candidate and champion on the pictures that can be compared; None without a champion."""
        if self.champion is None and self.comparison is None:
            return None
        if self.shared is not None:
            return self.shared
        pictures = self.comparison.pictures if self.comparison else self.candidate.test_pictures
        return SharedClasses(
            classes=self.classes,
            pictures=pictures,
            candidate=self.candidate,
            champion=self.champion,
            comparison=self.comparison,
            slices=self.slices,
        )

    def headline(self) -> Evaluation:
        """Return what travels between the steps of a run; the rest is in `evaluation.json`."""
        return replace(
            self,
            candidate=self.candidate.headline(),
            champion=self.champion.headline() if self.champion else None,
            comparison=None,
            shared=None,
            slices={},
            reference=None,
        )
