"""What the page of a report shows, section by section; a section without data is empty or None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts.evaluation import Comparison, Difference, SharedClasses, SliceMetrics
from pipeline.artifacts.gate import Override, Rule
from pipeline.artifacts.metrics import CoveragePoint, Interval
from pipeline.artifacts.training import Calibration, CrossValidation
from pipeline.artifacts.tuning import Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureCard:
    """A picture with where it comes from.

    Args:
        id: Its id.
        image: The picture, small, as a data URI.
        label: Its class.
        name: Its file name.
        link: Its address on the web, if it has one.
        creator: Who made it.
        license: Name of its licence.
        license_link: Where the licence can be read.
    """

    id: str
    image: str
    label: str
    name: str
    link: str | None
    creator: str | None
    license: str | None
    license_link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourCard:
    """A training picture that another one resembles, with the cosine between their features."""

    picture: PictureCard
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueCard:
    """A training picture with a suspected label, and what the others make of it."""

    picture: PictureCard
    predicted: str
    self_confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCard:
    """A test picture with the candidate's answer.

    Args:
        picture: The picture.
        predicted: The most probable class.
        score: Its probability.
        loss: Negative log-likelihood of the label.
        right: Whether the answer is the label.
        heated: The picture with what spoke for the answer in orange; None without an activation map.
        neighbours: The training pictures that it resembles, where they were looked for.
    """

    picture: PictureCard
    predicted: str
    score: float
    loss: float
    right: bool
    heated: str | None = None
    neighbours: Sequence[NeighbourCard] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """A label and what it was taken for: how often, and some of the pictures."""

    label: str
    predicted: str
    count: int
    pictures: Sequence[AnswerCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassExamples:
    """Right and wrong pictures of a class with what spoke for their answers."""

    label: str
    cards: Sequence[AnswerCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelIssues:
    """How many training pictures were examined, how many are suspected, and the first of those."""

    examined: int
    count: int
    pictures: Sequence[IssueCard]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """The gate's decision."""

    accepted: bool
    word: str
    plain: str
    reasons: Sequence[str]
    note: str
    override: Override | None
    rules: Sequence[Rule]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """A metric of the candidate, beside the champion's where there is one."""

    name: str
    title: str
    value: float
    interval: Interval | None
    champion: float | None
    difference: Difference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """Precision, recall and F1 of a class, each with its interval."""

    label: str
    support: int
    figures: Sequence[tuple[float | None, Interval | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionCell:
    """How many pictures, what they were taken for, their share of the row, and whether that is the label."""

    taken_for: str
    count: int
    share: float
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionRow:
    """The pictures of one label."""

    label: str
    cells: Sequence[ConfusionCell]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionView:
    """The confusion matrix."""

    labels: Sequence[str]
    rows: Sequence[ConfusionRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCounts:
    """Pictures of a class; None where they were not counted."""

    label: str
    pictures: int | None
    train: int | None
    test: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataView:
    """The dataset version.

    Args:
        version: Its id.
        classes: Pictures by class.
        rejected: Pictures that were left out, by reason, the most frequent first.
        stages: Pictures left after each stage; empty where they were not counted.
        leaks: Groups of near duplicates with pictures on both sides of the split.
        licences: Pictures by licence.
        warnings: What the data gate and the source warned of.
    """

    version: str
    classes: Sequence[ClassCounts]
    rejected: Sequence[tuple[str, int]]
    stages: Sequence[tuple[str, int]]
    leaks: int
    licences: Sequence[tuple[str, int]]
    warnings: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlikeShare:
    """The share of the test pictures whose novelty is above a limit."""

    limit: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """Everything that the page shows."""

    title: str
    description: str
    run_id: str
    verdict: VerdictView
    headline: Sequence[MetricView]
    baseline: float
    comparison: Comparison | None
    champion: str | None
    champion_saw: int | None
    shared: SharedClasses | None
    gained: Sequence[AnswerCard]
    lost: Sequence[AnswerCard]
    classes: Sequence[ClassView]
    few_pictures: int
    confusion: ConfusionView | None
    confused: Sequence[ConfusedPair]
    worst: Sequence[AnswerCard]
    wrong: int
    issues: LabelIssues | None
    training_pictures: int
    explained: Sequence[ClassExamples]
    charts: Mapping[str, str]
    coverage: Sequence[CoveragePoint]
    ece: float | None
    temperature: float | None
    slices: Mapping[str, Mapping[str, SliceMetrics]]
    data: DataView
    best_epoch: int | None
    calibration: Calibration | None
    cross_validation: CrossValidation | None
    tuning: Tuning | None
    unlike: Sequence[UnlikeShare]
    history: Sequence[tuple[str, str]]
    provenance: Sequence[tuple[str, str]]
