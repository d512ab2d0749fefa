"""Builds the summary of a run, and its note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.run_summary import (
    UNCHANGED,
    DataGateSummary,
    DatasetSummary,
    EvaluationSummary,
    GateSummary,
    Outcome,
    RunSummary,
    WorkSummary,
)
from pipeline.artifacts.steps import CleanResult, DatasetResult, FetchResult, PackResult
from pipeline.deploy.change_detection import RetrainSkip
from pipeline.evaluate.report import metrics_line, verdict_line


def count_work(
    fetched: Iterable[FetchResult],
    dataset: CleanResult,
    packed: Iterable[PackResult] = (),
    *,
    forwarded: int = 0,
    cached: int = 0,
) -> WorkSummary:
    """Add up the work of a run from what its steps counted where they did it.

    A picture decoded by `clean` and again by `pack` counts once.
    """
    return WorkSummary(
        downloaded=sum(part.downloaded for part in fetched),
        decoded=max(dataset.decoded, sum(part.decoded for part in packed)),
        forwarded=forwarded,
        cached=cached,
    )


def build_summary(
    *,
    run_id: str,
    state: Outcome,
    dataset: CleanResult,
    work: WorkSummary,
    evaluation: Evaluation,
    decision: GateDecision,
) -> RunSummary:
    """Return the summary of a run that reached its gate; it has no version yet."""
    return RunSummary(
        classifier=dataset.dataset,
        run_id=run_id,
        state=state,
        dataset=_describe_dataset(dataset),
        work=work,
        evaluation=EvaluationSummary.of(evaluation.candidate, job=evaluation.job),
        gate=GateSummary(accepted=decision.accepted, reasons=decision.reasons, override=decision.override),
        version=None,
        expect=_describe_data_gate(dataset),
        gate_preview=_gate_preview(dataset),
    )


def build_skipped_summary(*, run_id: str, dataset: CleanResult, work: WorkSummary) -> RunSummary:
    """Return the summary of a run that the data gate ended: nothing was trained or evaluated."""
    return RunSummary(
        classifier=dataset.dataset,
        run_id=run_id,
        state=Outcome.SKIPPED,
        dataset=_describe_dataset(dataset),
        work=work,
        evaluation=None,
        gate=None,
        version=None,
        expect=_describe_data_gate(dataset),
    )


def build_refused_summary(
    *, run_id: str, dataset: CleanResult, work: WorkSummary, reasons: Sequence[str]
) -> RunSummary:
    """Return the summary of a run whose gate no model can pass: nothing was trained or evaluated."""
    skipped = build_skipped_summary(run_id=run_id, dataset=dataset, work=work)
    gate = GateSummary(accepted=False, reasons=tuple(reasons))
    return replace(skipped, state=Outcome.REFUSED, gate=gate, gate_preview=_gate_preview(dataset))


def build_unchanged_summary(
    *, run_id: str, dataset: CleanResult, work: WorkSummary, skip: RetrainSkip
) -> RunSummary:
    """Return the summary of a run that had nothing new to train on; the model in it is the champion."""
    gate, lineage = skip.lineage.gate, skip.lineage
    return RunSummary(
        classifier=dataset.dataset,
        run_id=run_id,
        state=Outcome.SKIPPED,
        skipped=True,
        reason=f"{UNCHANGED}{skip.reason}",
        dataset=_describe_dataset(dataset),
        work=work,
        evaluation=EvaluationSummary.of(gate.metrics, job=lineage.evaluation_job),
        gate=GateSummary(accepted=gate.accepted, reasons=gate.reasons),
        version=skip.champion,
        expect=_describe_data_gate(dataset),
    )


def _describe_dataset(dataset: CleanResult) -> DatasetSummary:
    return DatasetSummary(version=dataset.version, pictures=dataset.pictures, classes=dict(dataset.classes))


def _gate_preview(dataset: CleanResult) -> tuple[str, ...]:
    return dataset.gate_preview if isinstance(dataset, DatasetResult) else ()


def _describe_data_gate(dataset: CleanResult) -> DataGateSummary | None:
    """Return what the data gate objected to, None if nothing."""
    verdict = dataset.expect
    return DataGateSummary(outcome=verdict.outcome, reasons=verdict.reasons) if verdict.reasons else None


def run_note(
    state: Outcome, decision: GateDecision, version: str | None, approval: Approval | None = None
) -> str:
    """Return the note that a run carries in the UI: Markdown, a few lines."""
    outcome = {
        Outcome.SUCCESS: f"**Deployed `{version}`.**",
        Outcome.REFUSED: "**Refused by the gate; nothing was deployed.**",
        Outcome.REJECTED: "**Rejected; nothing was deployed.**",
        Outcome.SUPERSEDED: "**Superseded: the default changed during the run; this version was deleted.**",
    }[state]
    lines = [outcome, metrics_line(decision.metrics), decision.note, f"Gate: {verdict_line(decision)}"]
    if approval is not None:
        lines.append(f"Approval: {approval.line}")
    return "\n\n".join(lines)
