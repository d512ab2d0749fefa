"""The evaluation as text for people: Markdown for the model card, one line for the run note."""

from __future__ import annotations

import html

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.metrics import Metrics


def metrics_line(metrics: Metrics) -> str:
    """Return accuracy with its interval, loss and count in one line."""
    low, high = metrics.accuracy_ci95
    return (
        f"accuracy {metrics.accuracy:.4f} (95 % interval of this model on these pictures: {low:.4f} to "
        f"{high:.4f}), loss {metrics.loss:.4g}, {metrics.test_pictures} test pictures"
    )


def verdict_line(decision: GateDecision) -> str:
    """Return the gate's decision, with every reason and who took the version in spite of them."""
    reasons = "; ".join(decision.reasons)
    off = f" (switched off: {', '.join(decision.switched_off)})" if decision.switched_off else ""
    if decision.override:
        override = decision.override
        return f"refused, but overridden by {override.by} ({override.reason}): {reasons}{off}"
    return f"accepted{off}" if decision.accepted else f"refused: {reasons}{off}"


def confusion_table(metrics: Metrics) -> str:
    """Return the confusion matrix as a Markdown table: a row for each label, a column for each answer."""
    labels = list(metrics.confusion)
    rows = [["label", *(f"taken for {_cell(label)}" for label in labels)], ["---"] * (len(labels) + 1)]
    rows += [[_cell(label), *(str(metrics.confusion[label][other]) for other in labels)] for label in labels]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def evaluation_report(evaluation: Evaluation, decision: GateDecision | None = None) -> str:
    """Return the Markdown section on how the model did."""
    parts = [
        f"Candidate: {metrics_line(evaluation.candidate)} (batch prediction job `{evaluation.job}`).",
        f"Baseline: {evaluation.note}.",
    ]
    if decision is not None:
        parts.append(f"Gate: {verdict_line(decision)}.")
    return "\n\n".join([*parts, confusion_table(evaluation.candidate)])


def comparison_table(evaluation: Evaluation) -> str:
    """Return candidate and champion side by side as a Markdown table."""
    champion = evaluation.champion
    version = evaluation.champion_version or "none serves"
    rows = [["metric", "candidate", f"champion ({version})"], ["---"] * 3]
    for name in ("accuracy", "loss", "macro_f1"):
        values = [
            _format(metrics.value_of(name)) if metrics else "-"
            for metrics in (evaluation.candidate, champion)
        ]
        rows.append([name.replace("_", " "), *values])
    intervals = [
        "{:.4f} to {:.4f}".format(*metrics.accuracy_ci95) if metrics else "-"
        for metrics in (evaluation.candidate, champion)
    ]
    rows.insert(3, ["accuracy, 95 % interval", *intervals])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def approval_question(evaluation: Evaluation, decision: GateDecision, *, report: str) -> str:
    """Return what a person who is to approve a version needs to know: Markdown.

    Args:
        evaluation: Of the candidate and the champion.
        decision: The gate's decision.
        report: Address of the run's report.
    """
    parts = [comparison_table(evaluation)]
    if evaluation.comparison is not None:
        gained, lost = len(evaluation.comparison.gained), len(evaluation.comparison.lost)
        parts.append(f"Only the candidate is right on {gained} pictures, only the champion on {lost}.")
    parts += [f"Baseline: {evaluation.note}.", f"Gate: {verdict_line(decision)}."]
    parts += [f"* {rule.verdict}: {rule.text}" for rule in decision.rules]
    return "\n\n".join([*parts, f"[Report]({report}), also the tab *Report* of this run."])


def _cell(label: str) -> str:
    """Return a label so that a table shows it as it is: people write what they like."""
    return html.escape(label, quote=False).replace("|", "\\|")
