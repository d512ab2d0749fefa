"""What a model version carries beside its SavedModel: where it comes from and who decided on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import JsonValue

from pipeline.artifacts.estimate import Setting, show_setting
from pipeline.artifacts.folders import ModelDirectory
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.record import Record
from pipeline.errors import ObjectNotFound

TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Record):
    """A person's decision on one version that passed its gate.

    Args:
        approved: Whether it may be deployed.
        by: Who decided; `timeout` where nobody answered in time.
        reason: Why; may be empty.
        at: When, as ISO 8601.
    """

    approved: bool
    by: str
    reason: str
    at: str

    @property
    def line(self) -> str:
        """The decision in one line."""
        verb = "approved" if self.approved else "rejected"
        who = "nobody in time, so by default" if self.by == TIMEOUT else self.by
        return f"{verb} by {who}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetReference(Record):
    """The dataset version that a model version was trained and tested on.

    Args:
        dataset: Name of the dataset, which is the classifier's.
        version: Its version.
        uri: The folder of the version.
        classes: Kept pictures by class, in the order of the model's outputs.
    """

    dataset: str
    version: str
    uri: str
    classes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningReference(Record):
    """The study that found the parameters of a model version.

    Args:
        job: Id of the hyperparameter tuning job.
        uri: Its `tuning.json`, which has every trial.
        goal: What decided, cross-validated on training pictures: `loss` or `accuracy`.
        seed: Of the study.
        trials: How many were judged.
        value: The best figure; being the best of several, it is too good.
        parameters: What trained, by dotted keys.
    """

    job: str
    uri: str
    goal: str
    seed: int
    trials: int
    value: float
    parameters: dict[str, Setting]

    @property
    def line(self) -> str:
        """What it found, in one line."""
        chosen = ", ".join(f"{name}={show_setting(value)}" for name, value in self.parameters.items())
        return f"{chosen}: {self.goal} {self.value:.4f}, the best of {self.trials} cross-validated trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReference(Record):
    """The training job that made a model version, and what it was made of.

    Args:
        job: Id of the job.
        weights_uri: The staged weights of the backbone.
        package_uri: The trainer package.
        model_uri: The model directory that it exported.
        classes: Label of output 0, of output 1, ...
        forwarded: Training pictures that went through the backbone.
        cached: Training pictures whose features were cached.
        package: Where the job imported the package from: `version` and `file`.
        head_uri: The staged file of a custom head, None for the standard head.
        runtime_version: ML Engine's runtime version.
        tuning: The study that found the head's parameters; None where the YAML names them.
    """

    job: str
    weights_uri: str
    package_uri: str
    model_uri: str = ""
    classes: tuple[str, ...] = ()
    forwarded: int = 0
    cached: int = 0
    package: dict[str, str] | None = None
    head_uri: str | None = None
    runtime_version: str | None = None
    tuning: TuningReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements(Record):
    """The lock that Graft ran with."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage(Record):
    """`lineage.json`: where a model version comes from.

    Args:
        classifier: The classifier's YAML as the run had it.
        run_id: The run that made the version.
        dataset: Its pictures.
        training: Its training job.
        evaluation_job: Batch prediction job of its evaluation.
        champion: The version that served when it was evaluated.
        gate: What the gate decided.
        approval: What a person decided; None where nobody was asked.
        requirements: The lock that Graft ran with; None where Graft ran without its repository.
    """

    FORMAT: ClassVar[int | None] = 1

    classifier: dict[str, JsonValue]
    run_id: str
    dataset: DatasetReference
    training: TrainingReference
    evaluation_job: str
    champion: str | None
    gate: GateDecision
    approval: Approval | None = None
    requirements: Requirements | None = None

    def reject_below(self, label: str) -> float:
        """Return the probability below which the version does not give a label; 0 where it always does."""
        below = self.thresholds.get(label)
        return self._serving_threshold("reject_below") if below is None else below

    @property
    def thresholds(self) -> dict[str, float]:
        """The probabilities by class in place of `serving.reject_below`."""
        serving = self.classifier.get("serving")
        values = serving.get("thresholds") if isinstance(serving, dict) else None
        pairs = values.items() if isinstance(values, dict) else ()
        return {name: float(each) for name, each in pairs if isinstance(each, int | float)}

    @property
    def reject_unlike(self) -> float:
        """The novelty above which the version gives no label; 0 where it always gives one."""
        return self._serving_threshold("reject_unlike")

    def _serving_threshold(self, name: str) -> float:
        serving = self.classifier.get("serving")
        threshold = serving.get(name) if isinstance(serving, dict) else None
        return float(threshold) if isinstance(threshold, int | float) else 0.0

    @property
    def decided_by(self) -> str:
        """Who let the version through: `gate`, or the person who approved it or overrode its gate."""
        return decided_by(self.gate, self.approval)


def decided_by(decision: GateDecision, approval: Approval | None) -> str:
    """Return who let a version through: `gate`, or the person who approved it or overrode its gate."""
    person = approval or decision.override
    return person.by if person else "gate"


def read_lineage(model: ModelDirectory) -> Lineage | None:
    """Return the lineage of a version, None where it carries none: it was not deployed by Graft."""
    return Lineage.find(model.storage, model.lineage)


def read_labels(model: ModelDirectory) -> tuple[str, ...] | None:
    """Return the labels of a version in the order of its outputs, None where it carries none."""
    try:
        return tuple(map(str, model.storage.read_json(model.labels)))
    except ObjectNotFound:
        return None
