"""Results of the steps of a run: what tasks hand on to each other, through XCom as `to_dict()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pydantic import ConfigDict, JsonValue

from pipeline.artifacts.dataset import DataVerdict
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision, Override, Rule, Verdict
from pipeline.artifacts.model_record import Approval, TuningReference
from pipeline.artifacts.record import Record
from pipeline.artifacts.run_summary import RunSummary

if TYPE_CHECKING:
    pass

PackItem: TypeAlias = int | str  # a shard's place in the pack index, or "test"
ParameterValue: TypeAlias = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult(Record):
    """The result of a step; a key that it does not have is an error."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult(StepResult):
    """What one chunk of `fetch` did.

    Args:
        index: The fetch index; None in a run that trains on a dataset version which is there already.
        downloaded: Files transferred from the sources.
        found: Pictures of the chunk.
        reused: Pictures that were not read again.
        refused: Pictures that a source names but does not give, by reason.
        requests: HTTP requests for pictures.
    """

    index: str | None
    downloaded: int = 0
    found: int = 0
    reused: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanResult(StepResult):
    """A dataset version and the work it took.

    Args:
        dataset: The classifier's name.
        version: Id of the dataset version.
        uri: Its folder.
        classes: Kept pictures by class, in the order of the outputs.
        pictures: Kept pictures.
        test_pictures: Those of the test side.
        train_pictures: Those of the training side.
        rejected: Pictures that were not kept, by reason.
        decoded: Pictures that were decoded.
        warnings: What a user should know about the version.
        expect: The verdict of the data gate.
        new: Whether this run is the first one that ends with the version.
    """

    dataset: str
    version: str
    uri: str
    classes: dict[str, int]
    pictures: int
    test_pictures: int
    train_pictures: int
    rejected: dict[str, int]
    decoded: int
    warnings: list[str]
    expect: DataVerdict
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetResult(CleanResult):
    """A dataset version with the plan of its packs: the result of the task `clean`.

    Args:
        pack_index: The pack index.
        pack_items: What `pack` has to write: places of shards in the index, and `"test"`.
        classifier: The classifier as this run has it.
        gate_preview: What its gate can tell with the test pictures, a sentence each.
    """

    pack_index: str
    pack_items: list[PackItem]
    classifier: dict[str, JsonValue]
    gate_preview: tuple[str, ...] = ()

    @classmethod
    def plan(
        cls,
        clean: CleanResult,
        *,
        pack_index: str,
        pack_items: Iterable[PackItem],
        classifier: Mapping[str, JsonValue],
    ) -> DatasetResult:
        """Add the plan of its packs to a dataset version."""
        values = {each.name: getattr(clean, each.name) for each in fields(clean)}
        return cls(**values, pack_index=pack_index, pack_items=list(pack_items), classifier=dict(classifier))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult(StepResult):
    """What packing took.

    Args:
        decoded: Pictures that were decoded.
        written: Files that were written.
    """

    decoded: int
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult(StepResult):
    """What a study found, and what it cost this run.

    Args:
        tuning: The study, with the parameters that train.
        forwarded: Pictures that went through the frozen network; none in a run that found the study there.
    """

    tuning: TuningReference
    forwarded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult(StepResult):
    """A trained model, what it was made of, and the work that the job counted.

    Args:
        job: Id of the training job.
        model_uri: The model directory.
        classes: Label of output 0, of output 1, and so on.
        forwarded: Pictures that went through the frozen network, in a study, too.
        cached: Pictures whose features were there already.
        package_uri: The trainer package.
        package: Version and file of the package as the job imported it.
        weights_uri: The staged weights of the backbone.
        head_uri: The staged file of a custom head; None for the default head.
        runtime_version: The engine's runtime that the job ran in.
        tuning: The study that found the head's parameters; None where the YAML names them.
    """

    job: str
    model_uri: str
    classes: list[str]
    forwarded: int
    cached: int
    package_uri: str
    package: dict[str, str]
    weights_uri: str
    head_uri: str | None = None
    runtime_version: str
    tuning: TuningReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult(Evaluation):
    """The headline of an evaluation, and where the whole is.

    Args:
        uri: Its `evaluation.json`.
        predictions: Folder of the candidate's predictions.
    """

    uri: str
    predictions: str

    @classmethod
    def of(cls, evaluation: Evaluation, *, uri: str, predictions: str) -> EvaluateResult:
        """Return the result of the evaluate step."""
        headline = evaluation.headline()
        values = {each.name: getattr(headline, each.name) for each in fields(headline)}
        return cls(**values, uri=uri, predictions=predictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(StepResult):
    """The decision of a gate.

    Args:
        decision: The decision with every rule.
        summary: The summary of the run so far; None outside the DAG of a classifier.
        report: The report of the run; None where nothing but the evaluation is known.
    """

    decision: GateDecision
    summary: RunSummary | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalResult(StepResult):
    """The answer of a person, None where nobody had to be asked."""

    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionResult(StepResult):
    """A deployed version.

    Args:
        model: Name of the model.
        version: Name of the version.
        state: Its state.
        deployment_uri: The model directory that it was made of.
    """

    model: str
    version: str
    state: str
    deployment_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeTestResult(StepResult):
    """The measurements of a passed smoke test.

    Args:
        pictures: Golden pictures that were predicted online.
        max_difference: Largest difference from the evaluated outputs.
        slowest_seconds: The slowest answer but for the first one, which may load the version.
        answers: Answers that were timed.
        median_ms: Their median in milliseconds.
        p95_ms: Their 95th percentile in milliseconds.
        latency: The gate's rule on the latency, judged; None if the gate has none.
        override: Who takes the version in spite of that rule; None if nobody does.
    """

    pictures: int
    max_difference: float
    slowest_seconds: float
    answers: int
    median_ms: float
    p95_ms: float
    latency: Rule | None = None
    override: Override | None = None

    @property
    def is_too_slow(self) -> bool:
        """Whether the rule on the latency failed."""
        return self.latency is not None and self.latency.verdict is Verdict.FAILED

    def judge(self, decision: GateDecision) -> GateDecision:
        """Return the gate's decision with the rule that the smoke test judged."""
        return decision if self.latency is None else decision.with_rule(self.latency, self.override)


class Promotion(StrEnum):
    """How a promotion ended."""

    PROMOTED = "promoted"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionResult(StepResult):
    """The outcome of a promotion.

    Args:
        promotion: Whether the version serves, or was superseded and deleted.
        previous: The default version when the candidate was evaluated; None for the first version.
    """

    promotion: Promotion
    previous: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult(StepResult):
    """A finished run.

    Args:
        summary: URI of its summary.
        version: The version that serves since.
    """

    summary: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPart(StepResult):
    """What one job of a model comparison judges: the options of one backbone.

    Args:
        classifier: The classifier as its YAML is when the comparison starts.
        version: The dataset version whose training pictures judge.
        backbones: Names of the backbones that are compared.
        heads: Types of the heads that are compared.
        parameters: Values of other parameters of `model`, by name.
        number: Which of the comparison's backbones this part is about.
        job: Id of the job that judged them; empty before.
    """

    classifier: dict[str, JsonValue]
    version: str
    backbones: list[str]
    heads: list[str]
    parameters: dict[str, list[ParameterValue]]
    number: int = 0
    job: str = ""
