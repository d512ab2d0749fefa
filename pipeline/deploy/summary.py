"""The summary of one run: what `graft run --json` prints, but for the seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from pipeline.deploy.approval import Approval
from pipeline.deploy.change_detection import RetrainSkip
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.gate import GateDecision
from pipeline.evaluate.report import metrics_line, verdict_line
from pipeline.storage import Storage
from pipeline.types import JsonDict


class RunState(StrEnum):
    """How a run that did not fail ended."""

    SUCCESS = "success"
    REFUSED = "refused"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"


def run_uri(workspace: str, classifier: str, run_id: str) -> str:
    """Return the folder of a run in the bucket; run ids are unique within one classifier only."""
    return f"{workspace}/runs/{classifier}/{quote(run_id, safe='')}"


def count_work(
    fetched: Iterable[Mapping[str, Any]],
    dataset: Mapping[str, Any],
    packed: Iterable[Mapping[str, Any]],
    trained: Mapping[str, Any],
) -> JsonDict:
    """Add up the work of a run from what its steps counted where they did it.

    A picture decoded by `clean` and again by `pack` counts once.
    """
    return {
        "downloaded": sum(int(part["downloaded"]) for part in fetched),
        "decoded": max(int(dataset["decoded"]), sum(int(part["decoded"]) for part in packed)),
        "forwarded": int(trained["forwarded"]),
        "cached": int(trained["cached"]),
    }


def build_summary(
    *,
    classifier: str,
    run_id: str,
    state: RunState,
    dataset: Mapping[str, Any],
    work: JsonDict,
    evaluation: Evaluation,
    decision: GateDecision,
    version: str | None,
) -> JsonDict:
    """Return the summary; `version` is null unless the run left one behind."""
    metrics = evaluation.candidate
    return {
        "classifier": classifier,
        "run_id": run_id,
        "state": str(state),
        "dataset": _describe_dataset(dataset),
        "work": work,
        "evaluation": {
            "accuracy": metrics.accuracy,
            "accuracy_ci95": list(metrics.accuracy_ci95),
            "loss": metrics.loss,
            "test_pictures": metrics.test_pictures,
            "job": evaluation.job,
        },
        "gate": {
            "accepted": decision.accepted,
            "reasons": list(decision.reasons),
            **({"override": decision.override} if decision.override else {}),
        },
        "version": version,
        **_say_expectations(dataset),
    }


def build_skipped_summary(
    *, classifier: str, run_id: str, dataset: Mapping[str, Any], work: JsonDict
) -> JsonDict:
    """Return the summary of a run that the data gate ended: nothing was trained or evaluated."""
    return {
        "classifier": classifier,
        "run_id": run_id,
        "state": str(RunState.SKIPPED),
        "dataset": _describe_dataset(dataset),
        "work": work,
        "evaluation": None,
        "gate": None,
        "version": None,
        **_say_expectations(dataset),
    }


def build_unchanged_summary(
    *, classifier: str, run_id: str, dataset: Mapping[str, Any], work: JsonDict, found: RetrainSkip
) -> JsonDict:
    """Return the summary of a run that had nothing new to train on; the model in it is the champion."""
    gate, metrics = found.lineage["gate"], found.lineage["gate"]["metrics"]
    names = ("accuracy", "accuracy_ci95", "loss", "test_pictures")
    return {
        "classifier": classifier,
        "run_id": run_id,
        "state": str(RunState.SKIPPED),
        "skipped": True,
        "reason": f"nothing new: {found.reason}",
        "dataset": _describe_dataset(dataset),
        "work": work,
        "evaluation": {
            **{name: metrics[name] for name in names},
            "job": found.lineage["evaluation_job"],
        },
        "gate": {"accepted": gate["accepted"], "reasons": gate["reasons"]},
        "version": found.champion,
        **_say_expectations(dataset),
    }


def _describe_dataset(dataset: Mapping[str, Any]) -> JsonDict:
    return {
        "version": dataset["version"],
        "pictures": dataset["pictures"],
        "classes": dict(dataset["classes"]),
    }


def _say_expectations(dataset: Mapping[str, Any]) -> JsonDict:
    """Return what the data gate said, nothing where it was content."""
    said = dataset.get("expect") or {}
    return {"expect": said} if said.get("reasons") else {}


def data_gate_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return what the data gate said, a line a rule."""
    return [f"Data gate: {reason}" for reason in summary.get("expect", {}).get("reasons", [])]


def write_summary(storage: Storage, workspace: str, summary: JsonDict) -> str:
    """Write a run's summary and return its URI."""
    uri = f"{run_uri(workspace, summary['classifier'], summary['run_id'])}/summary.json"
    storage.write_json(uri, summary)
    return uri


def run_note(
    state: RunState, decision: GateDecision, version: str | None, approval: Approval | None = None
) -> str:
    """Return the note that a run carries in the UI: Markdown, a few lines."""
    outcome = {
        RunState.SUCCESS: f"**Deployed `{version}`.**",
        RunState.REFUSED: "**Refused by the gate; nothing was deployed.**",
        RunState.REJECTED: "**Rejected; nothing was deployed.**",
        RunState.SUPERSEDED: "**Superseded: the default changed during the run; this version was deleted.**",
    }[state]
    lines = [outcome, metrics_line(decision.metrics), decision.note, f"Gate: {verdict_line(decision)}"]
    if approval is not None:
        lines.append(f"Approval: {approval.line}")
    return "\n\n".join(lines)


def outcome_line(summary: Mapping[str, Any]) -> str:
    """Return in one line what came of a run."""
    state, gate = RunState(summary["state"]), summary["gate"] or {}
    said = gate.get("approval") or {}
    if state is RunState.SUCCESS:
        low, high = summary["evaluation"]["accuracy_ci95"]
        accuracy = summary["evaluation"]["accuracy"]
        return f"deployed {summary['version']}, accuracy {accuracy:.4f} ({low:.4f} to {high:.4f})"
    if state is RunState.SKIPPED:
        reasons = [summary["reason"]] if "reason" in summary else data_gate_lines(summary)
        return f"skipped: {'; '.join(reasons)}"
    return {
        RunState.REFUSED: f"refused by the gate: {'; '.join(gate.get('reasons', []))}",
        RunState.REJECTED: f"rejected by {said.get('by')}: {said.get('reason') or 'no reason given'}",
        RunState.SUPERSEDED: "superseded: another version became the default during the run",
    }[state]
