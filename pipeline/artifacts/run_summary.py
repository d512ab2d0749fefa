"""`summary.json`: how a run ended; what `graft run --json` prints, but for the seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from pipeline.artifacts.gate import GateDecision, Override
from pipeline.artifacts.metrics import Interval, Metrics
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.record import Record
from pipeline.artifacts.workspace import Workspace

UNCHANGED = "nothing new: "


class Outcome(StrEnum):
    """How a run ended; `approval` is the one that has not ended: it waits for a person."""

    SUCCESS = "success"
    REFUSED = "refused"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    FAILED = "failed"
    APPROVAL = "approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary(Record):
    """The dataset version of a run: kept pictures in all and by class."""

    version: str
    pictures: int
    classes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSummary(Record):
    """How many pictures a run downloaded, decoded, ran through the backbone and found in the cache."""

    downloaded: int
    decoded: int
    forwarded: int
    cached: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSummary(Record):
    """The headline of a run's evaluation, and its batch prediction job."""

    accuracy: float
    accuracy_ci95: Interval
    loss: float
    test_pictures: int
    job: str

    @classmethod
    def of(cls, metrics: Metrics, *, job: str) -> EvaluationSummary:
        """Return the headline of metrics."""
        return cls(
            accuracy=metrics.accuracy,
            accuracy_ci95=metrics.accuracy_ci95,
            loss=metrics.loss,
            test_pictures=metrics.test_pictures,
            job=job,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSummary(Record):
    """What the gate decided, and the people who decided beside it."""

    accepted: bool
    reasons: tuple[str, ...]
    override: Override | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataGateSummary(Record):
    """The rules of the data gate that were broken, each led by its key, and what the run did."""

    outcome: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary(Record):
    """How a run ended.

    Args:
        classifier: The classifier.
        run_id: The run.
        state: How it ended.
        dataset: Its pictures.
        work: What it did.
        evaluation: How the candidate did; None if none was evaluated.
        gate: What the gate decided; None if it was not reached.
        version: What the run left behind, if anything.
        skipped: Whether there was nothing new; `evaluation` and `version` are then the champion's.
        reason: Why it was skipped.
        expect: What the data gate objected to; None if nothing.
        ended_by: The task that ended the run.
        gate_preview: What the test pictures can show, a sentence each; empty if the gate was not looked at.
    """

    FORMAT: ClassVar[int | None] = 1
    OMITS_DEFAULTS: ClassVar[bool] = True

    classifier: str
    run_id: str
    state: Outcome
    dataset: DatasetSummary
    work: WorkSummary
    evaluation: EvaluationSummary | None
    gate: GateSummary | None
    version: str | None
    skipped: bool = False
    reason: str | None = None
    expect: DataGateSummary | None = None
    ended_by: str | None = None
    gate_preview: tuple[str, ...] = ()

    def judged(self, decision: GateDecision) -> RunSummary:
        """Return the summary with another decision of the gate."""
        gate = GateSummary(accepted=decision.accepted, reasons=decision.reasons, override=decision.override)
        return replace(self, gate=gate)

    @property
    def data_gate_lines(self) -> list[str]:
        """What the data gate objected to, a line a rule."""
        return [f"Data gate: {reason}" for reason in (self.expect.reasons if self.expect else ())]

    @property
    def line(self) -> str:
        """How the run ended, in one line."""
        if self.state is Outcome.SUCCESS and self.evaluation is not None:
            low, high = self.evaluation.accuracy_ci95
            return (
                f"deployed {self.version}, accuracy {self.evaluation.accuracy:.4f} ({low:.4f} to {high:.4f})"
            )
        if self.state is Outcome.SUPERSEDED:
            return "superseded: another version became the default during the run"
        return f"{self.state}{self._who}: {self._why}"

    @property
    def _who(self) -> str:
        approval = self.gate.approval if self.gate else None
        return {
            Outcome.REFUSED: " by the gate",
            Outcome.REJECTED: f" by {approval.by if approval else None}",
        }.get(self.state, "")

    @property
    def _why(self) -> str:
        if self.state is Outcome.SKIPPED:
            return self.reason or "; ".join(self.data_gate_lines)
        if self.state is Outcome.REJECTED:
            approval = self.gate.approval if self.gate else None
            return (approval.reason if approval else "") or "no reason given"
        return "; ".join(self.gate.reasons if self.gate else ())


def read_summary(workspace: Workspace, classifier: str, run_id: str) -> RunSummary | None:
    """Return the summary of a run, None while there is none."""
    return RunSummary.find(workspace.storage, workspace.run(classifier, run_id).summary)


def write_summary(workspace: Workspace, summary: RunSummary) -> str:
    """Write a run's summary and return its URI."""
    uri = workspace.run(summary.classifier, summary.run_id).summary
    summary.write(workspace.storage, uri)
    return uri
