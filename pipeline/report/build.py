"""Writes the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.artifacts.workspace import ModelDirectory, Workspace
from pipeline.report.content import build_content
from pipeline.report.inputs import read_inputs
from pipeline.report.page import render_page


def write_report(
    workspace: Workspace,
    *,
    run_id: str,
    dataset: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> str:
    """Build the report of a run from the results of its steps, and write it beside the evaluation.

    The run's own folder gets `evaluated.json`, which says where the report is, and what the gate said; the
    suspected labels are there as data too, for people to decide on.

    Returns:
        Its URI.
    """
    inputs = read_inputs(
        workspace, run_id=run_id, dataset=dataset, training=training, evaluation=evaluation, decision=decision
    )
    uri = workspace.job(evaluation["job"]).report
    content = build_content(workspace, inputs)
    storage = workspace.storage
    storage.write_bytes(uri, render_page(content).encode())
    issues = content["issues"] and {name: content["issues"][name] for name in ("examined", "count", "found")}
    storage.write_json(
        workspace.run(dataset["classifier"]["name"], run_id).evaluated,
        {
            "run_id": run_id,
            "dataset": {name: dataset[name] for name in ("dataset", "version")},
            "evaluation_job": evaluation["job"],
            "accuracy": evaluation["candidate"]["accuracy"],
            "accepted": decision["accepted"],
            "reasons": list(decision["reasons"]),
            "report": uri,
            "label_issues": issues,
        },
    )
    return uri


def copy_report(workspace: Workspace, *, evaluation_job: str, model_uri: str) -> None:
    """Put the report beside the model, so that a version carries it."""
    storage = workspace.storage
    page = storage.read_bytes(workspace.job(evaluation_job).report)
    storage.write_bytes(ModelDirectory(storage, model_uri).report, page)
